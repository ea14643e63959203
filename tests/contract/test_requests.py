"""The limits that a request must keep: at, below and above each, with the field's name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contract.errors import DeadlinePassed, InvalidRequest
from headrace.contract.requests import ChatMessage, Limits, Request, check_request
from headrace.contract.values import Priority, Sampling, Task

LIMITS = Limits(
    max_tokens=100,
    max_prompt_bytes=20,
    max_messages=3,
    max_role_bytes=8,
    max_stop_strings=2,
    max_stop_bytes=5,
    max_texts=3,
)
NOW_S = 1000.0


def request(**changes: Any) -> Request:
    base = Request(id="", tenant="t", model="m", priority=Priority.NORMAL, prompt="hi")
    if "messages" in changes:
        changes.setdefault("prompt", "")
    return replace(base, **changes)


def chat(*contents: str, role: str = "user") -> dict[str, Any]:
    return {"messages": tuple(ChatMessage(role=role, content=content) for content in contents)}


def texts(*contents: str) -> dict[str, Any]:
    return {"task": Task.EMBED, "prompt": "", "texts": contents}


def sampling(**changes: Any) -> dict[str, Any]:
    return {"sampling": Sampling(**changes)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prompt": "x" * 20},
        {"prompt": "ä" * 10},
        {"prompt": " "},
        {"prompt": "\0"},
        texts("a"),
        texts("x" * 10, "y" * 9, "z"),
        {"task": Task.TRANSLATE},
        {"task": Task.TRANSLATE, "source_language": "x" * 32, **sampling(beam_size=32)},
        chat("hi"),
        chat("x" * 10, "", "y" * 10),
        chat("hi", role="12345678"),
        chat("hi", role="ääää"),
        {"max_tokens": 0},
        {"max_tokens": 1},
        {"max_tokens": 100},
        {"stop": ("a", "12345")},
        {"stop": ("é" * 2,)},
        sampling(temperature=0.0),
        sampling(temperature=2.0),
        sampling(top_k=0),
        sampling(top_k=1000),
        sampling(top_p=1e-6),
        sampling(top_p=1.0),
        sampling(repetition_penalty=0.5),
        sampling(repetition_penalty=2.0),
        {"deadline_s": 1000.001},
        {"deadline_s": float("inf")},
    ],
)
def test_what_is_at_a_limit_keeps_it(changes: dict[str, Any]) -> None:
    """Sizes are bytes of UTF-8; 0 tokens means the default."""
    check_request(request(**changes), LIMITS, NOW_S)


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"prompt": ""}, "prompt", "is empty"),
        ({"prompt": "hi", **chat("ho")}, "prompt", "not both"),
        ({"prompt": "x" * 21}, "prompt", "is 21 bytes long; at most 20"),
        ({"prompt": "ä" * 10 + "x"}, "prompt", "is 21 bytes long"),
        (chat("x" * 10, "y" * 11), "messages", "is 21 bytes long"),
        (chat("a", "b", "c", "d"), "messages", "at most 3 are allowed (were 4)"),
        (chat(""), "messages", "all are empty"),
        (chat("", "", ""), "messages", "all are empty"),
        (chat("hi", role=""), "messages[0].role", "1 … 8 bytes"),
        (chat("hi", role="123456789"), "messages[0].role", "1 … 8 bytes"),
        (chat("hi", role="ääääx"), "messages[0].role", "1 … 8 bytes"),
        (
            {"messages": (ChatMessage(role="user", content="a"), ChatMessage(role="", content="b"))},
            "messages[1].role",
            "bytes",
        ),
        ({"max_tokens": -1}, "max_tokens", "must lie in 1 … 100 (was -1)"),
        ({"max_tokens": 101}, "max_tokens", "must lie in 1 … 100 (was 101)"),
        ({"stop": ("a", "b", "c")}, "stop", "at most 2 strings are allowed (were 3)"),
        ({"stop": ("a", "")}, "stop[1]", "must be 1 … 5 bytes"),
        ({"stop": ("123456",)}, "stop[0]", "must be 1 … 5 bytes"),
        ({"stop": ("é" * 3,)}, "stop[0]", "must be 1 … 5 bytes"),
        (sampling(temperature=-1e-6), "sampling.temperature", "0 … 2"),
        (sampling(temperature=2.000001), "sampling.temperature", "0 … 2"),
        (sampling(temperature=float("nan")), "sampling.temperature", "0 … 2"),
        (sampling(temperature=float("inf")), "sampling.temperature", "0 … 2"),
        (sampling(top_k=-1), "sampling.top_k", "0 … 1000 (was -1)"),
        (sampling(top_k=1001), "sampling.top_k", "0 … 1000 (was 1001)"),
        (sampling(top_p=0.0), "sampling.top_p", "above 0 and at most 1"),
        (sampling(top_p=1.000001), "sampling.top_p", "above 0 and at most 1"),
        (sampling(top_p=float("nan")), "sampling.top_p", "above 0 and at most 1"),
        (sampling(repetition_penalty=0.499999), "sampling.repetition_penalty", "0.5 … 2"),
        (sampling(repetition_penalty=2.000001), "sampling.repetition_penalty", "0.5 … 2"),
        (sampling(repetition_penalty=float("nan")), "sampling.repetition_penalty", "0.5 … 2"),
        ({"task": Task.EMBED}, "prompt", "give what is to be embedded as texts"),
        (texts(), "texts", "must be 1 … 3 (were 0)"),
        (texts("a", "b", "c", "d"), "texts", "must be 1 … 3 (were 4)"),
        (texts("a", ""), "texts[1]", "is empty"),
        (texts("x" * 10, "y" * 11), "texts", "are 21 bytes long together"),
        ({"texts": ("a",)}, "texts", "for the task embed alone"),
        ({"task": Task.TRANSLATE, "prompt": ""}, "prompt", "nothing to translate"),
        ({"task": Task.TRANSLATE, "prompt": "x" * 21}, "prompt", "is 21 bytes long"),
        ({"task": Task.TRANSLATE, **chat("hi")}, "messages", "as the prompt"),
        ({"task": Task.TRANSLATE, "source_language": "x" * 33}, "source_language", "at most 32"),
        ({"target_language": "fra"}, "target_language", "for the task translate alone"),
        (sampling(beam_size=0), "sampling.beam_size", "1 … 32 (was 0)"),
        (sampling(beam_size=33), "sampling.beam_size", "1 … 32 (was 33)"),
        (sampling(beam_size=2), "sampling.beam_size", "only translate has beams"),
        (
            {"task": Task.TRANSLATE, **sampling(beam_size=2, temperature=0.5)},
            "sampling.beam_size",
            "exclude one another",
        ),
        ({"deadline_s": 1000.0}, "deadline", "has passed"),
        ({"deadline_s": 998.5}, "deadline", "by 1.500 s"),
    ],
)
def test_what_is_past_a_limit_is_refused_by_its_field(changes: dict[str, Any], field: str, says: str) -> None:
    """With the limit, and the number where it is one."""
    with pytest.raises(InvalidRequest) as refused:
        check_request(request(**changes), LIMITS, NOW_S)
    assert refused.value.field == field
    assert says in refused.value.problem


def test_a_deadline_in_the_past_is_an_error_of_its_own() -> None:
    """It ends as expired, not as rejected."""
    with pytest.raises(DeadlinePassed) as refused:
        check_request(request(deadline_s=990.0), LIMITS, NOW_S)
    assert refused.value.late_s == 10.0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("max_tokens", {"max_tokens": 32_768}),
        ("max_prompt_bytes", {"prompt": "x" * 512 * 1024}),
        ("max_messages", chat(*["x"] * 1024)),
        ("max_role_bytes", chat("hi", role="x" * 64)),
        ("max_stop_strings", {"stop": ("x",) * 16}),
        ("max_stop_bytes", {"stop": ("x" * 256,)}),
    ],
)
def test_the_documented_limits_are_the_defaults_and_each_can_be_set(
    name: str, changes: dict[str, Any]
) -> None:
    """At the default it passes; with the limit one lower it does not."""
    check_request(request(**changes), Limits(), NOW_S)
    lower = replace(Limits(), **{name: getattr(Limits(), name) - 1})
    with pytest.raises(InvalidRequest):
        check_request(request(**changes), lower, NOW_S)


SECRET = "Xylophon42"
TEXTS = st.sampled_from(["", "hi", SECRET, SECRET * 3])


@settings(derandomize=True)
@given(
    st.builds(
        request,
        prompt=TEXTS,
        messages=st.lists(st.builds(ChatMessage, role=TEXTS, content=TEXTS), max_size=4).map(tuple),
        stop=st.lists(TEXTS, max_size=3).map(tuple),
        reply_to=TEXTS,
        gateway=TEXTS,
        max_tokens=st.integers(-1, 200),
    )
)
def test_no_refusal_tells_what_a_request_holds(asked: Request) -> None:
    """Prompts, messages, roles and stop strings stay with the one who wrote them."""
    try:
        check_request(asked, LIMITS, NOW_S)
    except InvalidRequest as error:
        told = f"{error} {vars(error)}"
    else:
        told = ""
    assert SECRET not in told
