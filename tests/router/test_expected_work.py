"""What a request takes a lane, where models are weighed by it."""

from __future__ import annotations

from headrace.contract.values import Task
from headrace.router.expected_work import GUESSED_S, expected_work_s

SEEN = {"chat@aaaaaaaaaaaa": 3.0, "vectors": 0.02}


def seen_s(reference: str) -> float:
    return SEEN.get(reference, 0.0)


def test_what_was_seen_goes_before_what_is_guessed() -> None:
    """Of the version, of another one of its name, and else by the task: to embed takes less than to generate."""
    others = (*SEEN, "chat@bbbbbbbbbbbb")
    assert expected_work_s("vectors", seen_s, others, Task.EMBED) == 0.02
    assert expected_work_s("chat@bbbbbbbbbbbb", seen_s, others, Task.GENERATE) == 3.0
    assert expected_work_s("new", seen_s, others, Task.EMBED) == GUESSED_S[Task.EMBED]
    assert expected_work_s("new", seen_s, others, None) == GUESSED_S[Task.GENERATE] > GUESSED_S[Task.EMBED]
