"""Our tracer: what is sampled, what a span keeps, and what waits to be told."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.trace import Link, StatusCode

from headrace.contract.errors import StartError
from headrace.contract.span_wire import read_bundle, read_span
from headrace.contract.spans import SpanKind
from headrace.runtime import trace_names as names
from headrace.runtime.propagation import as_parent, as_root, links_to, parse, trace_of
from headrace.runtime.recent_spans import BUNDLE_SPANS, RecentSpans
from headrace.runtime.recording import MAX_EVENTS, RecordedSpan, RecordingTracer
from headrace.runtime.sampling import sampler_of

SAMPLED = parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b")
UNSAMPLED = parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")


def tracer(name: str = "", argument: str = "") -> tuple[RecordingTracer, list[RecordedSpan]]:
    ended: list[RecordedSpan] = []
    return RecordingTracer(sampler_of(name, argument), [ended.append]), ended


def test_a_span_keeps_what_it_is_told_until_it_ends() -> None:
    """Once it has ended it changes no more, and is handed on once."""
    ours, ended = tracer()
    span = ours.start_span("a", as_parent(SAMPLED), attributes={"x": 1}, start_time=5)
    span.set_attribute("y", "z")
    span.add_event("e", {"n": 2}, 6)
    span.set_status(StatusCode.ERROR)
    span.end(7)
    span.end(8)
    span.set_attribute("y", "late")
    span.add_event("late")
    (found,) = ended
    assert (found.attributes, found.events) == ({"x": 1, "y": "z"}, [("e", 6, {"n": 2})])
    assert (found.start_ns, found.end_ns, found.status) == (5, 7, StatusCode.ERROR)
    assert not found.is_recording()


def test_the_trace_goes_on_from_its_parent() -> None:
    """Same trace and state, a new span; what is current is the parent by default, and none begins a new trace."""
    ours, ended = tracer()
    with ours.start_as_current_span("a", as_parent(SAMPLED)) as outer:
        inner = ours.start_span("b")
        inner.end()
    alone = ours.start_span("c", as_parent(parse("")))
    alone.end()
    b, a, c = ended
    assert trace_of(outer).traceparent[3:35] == SAMPLED.trace_id
    assert trace_of(outer).tracestate == "a=b"
    assert (b.parent, a.parent) == (a.context, trace.get_current_span(as_parent(SAMPLED)).get_span_context())
    assert c.parent is None
    assert c.context.trace_id != a.context.trace_id


def test_a_trace_without_a_parent_can_be_begun_again() -> None:
    """By its name: in whatever process, the same trace is sampled or not; another name has another one."""
    (ours, ended), (elsewhere, there) = (
        tracer("traceidratio", "0.5"),
        tracer("parentbased_traceidratio", "0.5"),
    )
    names_ = [f"tenant.{number}" for number in range(40)]
    for one in (ours, elsewhere):
        for name in names_:
            one.start_span("a", as_root(name)).end()
    ids = [span.context.trace_id for span in ended]
    assert ids == [span.context.trace_id for span in there]
    assert 5 < len(set(ids)) == len(ids) < 35
    assert all(span.parent is None for span in ended)


def test_an_exception_leaves_its_type_and_no_text() -> None:
    """Its text may hold content."""
    ours, ended = tracer()
    with pytest.raises(ValueError, match="secret"), ours.start_as_current_span("a"):
        raise ValueError("secret")
    assert "secret" not in repr([(each.attributes, each.events) for each in ended])
    assert ended[0].events[0][2] == {"exception.type": "ValueError"}
    assert ended[0].status is StatusCode.ERROR


def test_the_sampler_honours_the_parent_by_default() -> None:
    """What the hop before does not record is not recorded, and its context goes on unsampled."""
    ours, ended = tracer()
    span = ours.start_span("a", as_parent(UNSAMPLED))
    span.end()
    assert not ended
    assert trace_of(span, UNSAMPLED).traceparent[3:35] == UNSAMPLED.trace_id
    assert not trace_of(span, UNSAMPLED).sampled


@pytest.mark.parametrize(
    ("name", "argument", "root", "of_sampled", "of_unsampled"),
    [
        ("", "", True, True, False),
        ("parentbased_always_off", "", False, True, False),
        ("always_on", "", True, True, True),
        ("always_off", "", False, False, False),
        ("parentbased_traceidratio", "0", False, True, False),
        ("traceidratio", "1", True, True, True),
    ],
)
def test_the_standard_samplers(
    name: str, argument: str, root: bool, of_sampled: bool, of_unsampled: bool
) -> None:
    """Each of the specification's, for roots and for both kinds of parent."""
    ours, _ = tracer(name, argument)
    for parent, expected in ((parse(""), root), (SAMPLED, of_sampled), (UNSAMPLED, of_unsampled)):
        assert ours.start_span("a", as_parent(parent)).is_recording() is expected


def test_a_ratio_is_of_traces() -> None:
    """About the part that was asked for, and all processes choose the same ones."""
    sampler, again = sampler_of("traceidratio", "0.25"), sampler_of("parentbased_traceidratio", "0.25")
    ids = [(number * 0x9E3779B97F4A7C15) % 2**64 for number in range(1, 2001)]
    chosen = [sampler(trace_id, None) for trace_id in ids]
    assert 400 < sum(chosen) < 600
    assert chosen == [again(trace_id, None) for trace_id in ids]


@pytest.mark.parametrize(
    ("name", "argument"), [("sometimes", ""), ("traceidratio", "2"), ("traceidratio", "x")]
)
def test_a_sampler_that_there_is_not_is_refused(name: str, argument: str) -> None:
    """The error names the setting."""
    with pytest.raises(StartError, match="OTEL_TRACES_SAMPLER"):
        sampler_of(name, argument)


def test_events_of_one_span_are_bounded() -> None:
    """Further ones are counted."""
    ours, ended = tracer()
    span = ours.start_span("a")
    for _ in range(MAX_EVENTS + 3):
        span.add_event("paused")
    span.end()
    assert (len(ended[0].events), ended[0].events_lost) == (MAX_EVENTS, 3)


def test_what_waits_to_be_told_is_bounded_and_what_was_dropped_is_counted() -> None:
    """The oldest goes first; a bundle holds so many, and the next one the others."""
    recent = RecentSpans("router", "r-1", max_pending=100)
    ours = RecordingTracer(sampler_of("", ""), [recent.add])
    for number in range(130):
        ours.start_span(f"s-{number}", attributes={names.REQUEST_ID: "r"}).end()
    first = read_bundle(recent.take())
    second = read_bundle(recent.take())
    assert (len(first.spans), first.dropped, second.dropped) == (BUNDLE_SPANS, 30, 0)
    assert len(second.spans) == 100 - BUNDLE_SPANS
    assert read_span(first.spans[0].span).name == "s-30"
    assert (first.process, first.instance) == ("router", "r-1")
    assert recent.take() == b""


def test_a_span_says_which_requests_it_belongs_to() -> None:
    """Its own, and those that it links to, as a batch does; its attributes, events and kind cross as they are."""
    recent = RecentSpans("worker", "w-1", max_pending=100)
    ours = RecordingTracer(sampler_of("", ""), [recent.add])
    links = [Link(link.context, {names.REQUEST_ID: "r-2"}) for link in links_to([SAMPLED])]
    span = ours.start_span(
        "batch", kind=trace.SpanKind.CONSUMER, attributes={names.REQUEST_ID: "r-1", "n": [1, 2]}, links=links
    )
    span.add_event("paused", {"by": "realtime"})
    span.end()
    (told,) = read_bundle(recent.take()).spans
    assert set(told.request_ids) == {"r-1", "r-2"}
    found = read_span(told.span)
    assert (found.kind, found.attributes["n"]) == (SpanKind.CONSUMER, (1, 2))
    assert (found.links[0].trace_id, found.links[0].request_id) == (SAMPLED.trace_id, "r-2")
    assert [(event.name, event.attributes) for event in found.events] == [("paused", {"by": "realtime"})]
