"""What a router knows of a request: its output, cut anywhere, and what it hands over."""

from __future__ import annotations

from headrace.contract.values import TokenChunk
from tests.router.records import a_record, letters


def test_the_output_can_be_cut_behind_any_token() -> None:
    """However its chunks came, with their text or with all of it at the last token."""
    record = a_record(made="ab")
    record.keep(TokenChunk(first_index=2, token_ids=(1, 2), text="cd"))
    record.keep(TokenChunk(first_index=4, token_ids=(3,), text=""))
    assert [chunk and chunk.text for chunk in map(record.since, range(6))] == [
        "abcd",
        "bcd",
        "cd",
        "cd",
        "",
        None,
    ]
    output = record.output
    assert output is not None
    assert (output.token_ids, output.lengths) == ((97, 98, 1, 2, 3), (1, 1, 0, 2, 0))


def test_what_is_handed_over_is_where_the_next_router_begins() -> None:
    """Output, counts and times; one release more."""
    first = a_record(made="abc")
    first.attempts, first.losses, first.resumptions, first.assigned_s = 4, 2, 3, 1001.5
    first.first_token_s = 1002.0
    second = a_record(delivered=2)
    second.take_over(first.hand_over())
    assert second.output == first.output
    assert (second.attempts, second.losses, second.resumptions) == (4, 2, 3)
    assert second.deliveries == 1, "the delivery that ended in order does not count"
    usage = second.usage(1010.0)
    assert (usage.queue_s, usage.first_token_s, usage.total_s, usage.resumptions) == (1.5, 2.0, 10.0, 3)


def test_nothing_is_handed_over_where_nothing_was() -> None:
    """A request that only waited."""
    handed = a_record().hand_over()
    assert (handed.output, handed.queue_s, handed.first_token_s, handed.releases) == (None, None, None, 1)
    later = a_record(delivered=2)
    later.take_over(handed)
    later.keep(letters(0, "a"))
    assert later.next_index == 1
