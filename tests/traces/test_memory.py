"""A gateway's memory of spans: by request and trace, and bounded."""

from __future__ import annotations

import itertools

from headrace.contract.span_wire import span_bytes
from headrace.contract.spans import RequestSpan, SpanBundle, SpanRecord
from headrace.traces.memory import Memory

MIB = 2**20
_times = itertools.count(1)


def told(*ids: str, trace: str = "a" * 32, name: str = "queue") -> RequestSpan:
    began = next(_times)
    span = SpanRecord(trace_id=trace, span_id="b" * 16, name=name, start_ns=began, end_ns=began + 5)
    return RequestSpan(request_ids=ids, trace_id=trace, span=span_bytes(span))


def bundle(*spans: RequestSpan, dropped: int = 0) -> SpanBundle:
    return SpanBundle(process="worker", instance="w-1", spans=spans, dropped=dropped)


def memory(max_bytes: int = MIB, max_spans: int = 256) -> Memory:
    return Memory(max_bytes=max_bytes, max_spans=max_spans)


def test_a_request_is_found_with_the_spans_of_all_its_processes() -> None:
    """By its id; each span says who told it, in the order of their start."""
    kept = memory()
    later = told("r-1", name="stream")
    kept.take(bundle(later))
    kept.take(SpanBundle(process="gateway", instance="g", spans=(told("r-1", name="send"),)))
    found = kept.find("r-1")
    assert found is not None
    entry, others = found
    assert [(span.name, span.process, span.instance) for span in entry.decode()] == [
        ("stream", "worker", "w-1"),
        ("send", "gateway", "g"),
    ]
    assert others == ()
    assert kept.find("r-2") is None


def test_a_span_of_a_batch_is_kept_with_each_of_its_requests() -> None:
    """Whoever of them is looked at sees the batch."""
    kept = memory()
    kept.take(bundle(told("r-1", "r-2", name="batch")))
    for request_id in ("r-1", "r-2"):
        found = kept.find(request_id)
        assert found is not None
        assert [span.name for span in found[0].decode()] == ["batch"]


def test_a_trace_s_id_finds_its_latest_request_and_names_the_others() -> None:
    """A call that named no request is found by its trace's id alone."""
    kept = memory()
    kept.take(bundle(told("r-1"), told("r-2"), told("r-3", trace="c" * 32), told(trace="d" * 32)))
    found = kept.find("a" * 32)
    assert found is not None
    assert (found[0].key, found[1]) == ("r-2", ("r-1",))
    alone = kept.find("d" * 32)
    assert alone is not None
    assert len(alone[0].decode()) == 1


def test_the_oldest_request_is_forgotten_when_it_is_full() -> None:
    """Never more bytes than allowed, whatever comes; who was heard of lately stays."""
    kept = memory(max_bytes=20_000)
    kept.take(bundle(told("first")))
    for number in range(200):
        kept.take(bundle(told(f"r-{number}", trace=f"{number:032x}"), told("first")))
        assert kept.state.bytes <= 20_000
    assert kept.find("r-199") is not None
    assert kept.find("first") is not None
    assert kept.find("r-0") is None
    assert kept.find(f"{0:032x}") is None
    assert kept.state.requests == len(kept) < 40


def test_one_request_takes_no_more_than_its_share() -> None:
    """A request of very many spans keeps the first ones, and pushes nobody out."""
    kept = memory(max_spans=20)
    kept.take(bundle(*(told("r-1") for _ in range(500))))
    found = kept.find("r-1")
    assert found is not None
    assert (len(found[0].spans), found[0].lost) == (20, 480)


def test_what_was_lost_on_the_way_is_counted() -> None:
    """A process says how many spans it had no room for."""
    kept = memory()
    kept.take(bundle(told("r-1"), dropped=7))
    kept.take(bundle(told("r-1"), dropped=2))
    assert kept.state.dropped_spans == 9


def test_a_span_that_cannot_be_read_costs_only_itself() -> None:
    """Another process made it up: the others of its request are shown."""
    kept = memory()
    kept.take(bundle(RequestSpan(request_ids=("r-1",), trace_id="a" * 32, span=b"\xff\xff"), told("r-1")))
    found = kept.find("r-1")
    assert found is not None
    assert len(found[0].decode()) == 1


def test_the_latest_come_first() -> None:
    """By when they were last heard of."""
    kept = memory()
    kept.take(bundle(told("r-1"), told("r-2"), told("r-1")))
    assert [entry.key for entry in kept.latest(10)] == ["r-1", "r-2"]
    assert len(kept.latest(1)) == 1
