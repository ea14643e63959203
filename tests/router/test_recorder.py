"""The log of decisions, and deciding again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.contract.errors import StartError
from headrace.contract.values import Priority
from headrace.router.core import events as ev
from headrace.router.core.scheduler import Scheduler
from headrace.router.core.settings import SchedulerSettings
from headrace.router.recorder import Differing, Recorder, replay
from tests.router.core.dialogue import batches as batches_of
from tests.router.core.dialogue import completed, costs, ended, joined, made, request

SETTINGS = SchedulerSettings(first_token_s=(1.0, 2.0, float("inf"), float("inf")), tenant_weights={"t": 2.0})


def a_run(path: Path, max_bytes: int = 1_000_000) -> int:
    """A scheduler at work, on record; how many events."""
    scheduler, events = Scheduler(SETTINGS), 0
    with Recorder(path, SETTINGS, max_bytes=max_bytes) as recorder:

        def tell(event: ev.Event, now: float) -> list[ev.Event]:
            nonlocal events
            events += 1
            commands = scheduler.handle(event, now)
            recorder.note(event, now, commands)
            follow: list[ev.Event] = []
            for batch in batches_of(commands):
                follow += [made(batch.assignments[0], 0)]
                follow += [completed(assignment) for assignment in batch.assignments] + [ended(batch)]
            return follow

        pending = tell(joined(lanes=3, slots=1, cost=costs()), 0.0)
        for number in range(40):
            priority = list(Priority)[number % 4]
            arrived = request(
                f"r{number}", priority=priority, prompt_tokens=5 + number % 7, arrived_s=0.1 * number
            )
            pending += tell(arrived, 0.1 * number)
            if number % 3 == 0 and pending:
                pending += tell(pending.pop(0), 0.1 * number)
        while pending:
            pending += tell(pending.pop(0), 9.0)
    return events


def test_the_same_events_give_the_same_decisions(tmp_path: Path) -> None:
    """From the file alone: settings, times and events are all there."""
    log = tmp_path / "events.jsonl"
    events = a_run(log)
    assert list(replay(log)) == list(range(2, events + 2))


def test_a_decision_that_differs_is_named(tmp_path: Path) -> None:
    """With the event, what was decided then, and what is decided now."""
    log = tmp_path / "events.jsonl"
    a_run(log)
    lines = log.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"Start"' in line)
    line = json.loads(lines[at])
    line["commands"] = []
    lines[at] = json.dumps(line)
    log.write_text("\n".join(lines) + "\n")
    (differing,) = (found for found in replay(log) if isinstance(found, Differing))
    assert (differing.line, differing.recorded) == (at + 1, [])
    assert "Start" in differing.now[0]


def test_no_content_is_on_record(tmp_path: Path) -> None:
    """Tokens are counted; what they say is nobody's business."""
    log = tmp_path / "events.jsonl"
    a_run(log)
    tokens = [
        line["event"]["Progressed"]["tokens"]
        for line in map(json.loads, log.read_text().splitlines()[1:])
        if "Progressed" in line["event"]
    ]
    assert tokens
    assert all(not any(chunk["token_ids"]) and chunk["text"] == "" for chunk in tokens)


def test_a_log_ends_where_it_is_full(tmp_path: Path) -> None:
    """And what it has is good."""
    log = tmp_path / "events.jsonl"
    a_run(log, max_bytes=4_000)
    assert 0 < log.stat().st_size < 8_000
    assert all(isinstance(found, int) for found in replay(log))


def test_a_file_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    """By the setting that names it."""
    with pytest.raises(StartError, match=r"router\.event_log"):
        Recorder(tmp_path / "none" / "log", SETTINGS, max_bytes=1)
