"""What a consumer saw is checked, and every fault is counted once."""

from __future__ import annotations

import pytest

from headrace.bench.record import GAP, LENGTH, USAGE, Record
from headrace.contract.values import Outcome, OutcomeKind, Usage


def outcome(kind: OutcomeKind = OutcomeKind.COMPLETED, prompt: int = 5, output: int = 3) -> Outcome:
    usage = Usage(prompt_tokens=prompt, output_tokens=output)
    return Outcome(request_id="r", kind=kind, model="m", usage=usage)


def streamed(*chunks: tuple[int, int]) -> Record:
    record = Record(index=0, sent_s=0.0)
    for place, (first_index, count) in enumerate(chunks):
        record.take(first_index, count, 1.0 + place)
    return record


def test_a_stream_as_it_should_be_has_no_error() -> None:
    """Gaps between chunks are spread over the tokens of the later one."""
    record = streamed((0, 1), (1, 2))
    record.finish(outcome(), 3.0, prompt_tokens=5, output_tokens=3)
    assert record.error == ""
    assert record.gaps == [(0.5, 2)]


@pytest.mark.parametrize(
    ("chunks", "ended", "error"),
    [
        ([(0, 1), (2, 2)], outcome(), GAP),
        ([(0, 1), (0, 2)], outcome(), GAP),
        ([(0, 3)], outcome(output=4), USAGE),
        ([(0, 3)], outcome(prompt=6), USAGE),
        ([(0, 2)], outcome(output=2), LENGTH),
        ([(0, 3)], outcome(OutcomeKind.CANCELLED), "CANCELLED"),
    ],
)
def test_each_fault_has_its_code(chunks: list[tuple[int, int]], ended: Outcome, error: str) -> None:
    """A gap, a repeat, a usage that does not add up, a length that was not asked for, another end."""
    record = streamed(*chunks)
    record.finish(ended, 9.0, prompt_tokens=5, output_tokens=3)
    assert record.error == error
