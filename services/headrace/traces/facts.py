"""What of the spans of one request matters for its time and its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headrace.contract.spans import SpanEvent, SpanKind, SpanRecord
from headrace.runtime import trace_names as names

WAITING = ("/Generate", "/Translate", "/Embed")
"""The calls whose client waits for what it asks for."""
ASKING = (*WAITING, "/Submit")
"""The calls that bring a request. Others look at it: they are not part of its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A wait for a lane, from when it began until a lane took the request, or it ended."""

    seconds: float
    no_lanes_s: float
    load_s: float
    before_router_s: float
    ahead: tuple[int, ...]
    """By class: realtime, high, normal, batch."""
    ahead_queue: int
    lanes: int
    first: bool
    """Whether it is the request's first: later ones follow a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """An attempt that ended before its time."""

    worker: str
    reason: str
    code: str
    """Of the engine's failure; empty where it was none."""
    tokens: int
    cost_s: float
    """Until the first token of the next attempt, or the end."""
    next_worker: str
    recovered: bool
    """Whether a token followed."""


@dataclass(slots=True, kw_only=True)
class Facts:
    """One request. Times in seconds."""

    spans: tuple[SpanRecord, ...]
    holds: tuple[SpanRecord, ...]
    call: SpanRecord | None = None
    """The client's call at a gateway."""
    total_s: float = 0.0
    outcome: str = ""
    error: str = ""
    lookup_s: float = 0.0
    """How long the gateway looked for an outcome of its id."""
    publish_s: float = 0.0
    store_s: float = 0.0
    retries: int = 0
    """Tries of the outcome's storing that failed."""
    waits: tuple[Wait, ...] = ()
    losses: tuple[Loss, ...] = ()
    lost_routers: tuple[str, ...] = ()
    router_gap_s: float = 0.0
    paused: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By the class that went before it: how often, and for how long."""
    stalls: int = 0
    stalled_s: float = 0.0
    read_on_s: float = 0.0
    """How long the client's call went on after the outcome was there."""

    @property
    def paused_s(self) -> float:
        return sum(seconds for _, seconds in self.paused.values())


def facts_of(spans: Iterable[SpanRecord]) -> Facts:
    """The facts of the spans of one request, in any order; those of other requests' traces must not be among them."""
    ordered = tuple(sorted(spans, key=lambda span: (span.start_ns, -span.end_ns)))
    holds = tuple(span for span in ordered if span.name == names.SPAN_PROCESS_REQUEST)
    call = next(
        (span for span in ordered if span.kind is SpanKind.SERVER and span.name.endswith(ASKING)), None
    )
    facts = Facts(spans=ordered, holds=holds, call=call)
    own = [span for span in ordered if span.kind is not SpanKind.SERVER or span is call]
    if own:
        facts.total_s = (max(span.end_ns for span in own) - min(span.start_ns for span in own)) / 1e9
    facts.lookup_s = sum(span.duration_s for span in _named(ordered, names.SPAN_FIND_RESULT))
    facts.publish_s = sum(span.duration_s for span in _named(ordered, names.SPAN_SEND_REQUEST))
    for span in _named(ordered, names.SPAN_SEND_RESULT):
        facts.store_s += span.duration_s
        facts.retries += sum(event.name == names.EVENT_RETRY for event in span.events)
    _read_end(facts)
    facts.waits = _waits(ordered, holds)
    facts.losses = _losses(ordered, holds)
    _read_lost_routers(facts)
    for hold in holds:
        _read_pauses(facts, hold)
    return facts


def number(span: SpanRecord | SpanEvent, name: str) -> float:
    """A numeric attribute; 0 where there is none."""
    value = span.attributes.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def text(span: SpanRecord | SpanEvent, name: str) -> str:
    """A text attribute; empty where there is none."""
    value = span.attributes.get(name, "")
    return value if isinstance(value, str) else ""


def _named(spans: Iterable[SpanRecord], name: str) -> list[SpanRecord]:
    return [span for span in spans if span.name == name]


def _read_end(facts: Facts) -> None:
    ends = [span for span in (*facts.holds, facts.call) if span is not None]
    for span in ends:
        facts.outcome = text(span, names.OUTCOME) or facts.outcome
        facts.error = facts.error or text(span, names.ERROR_TYPE)
    call = facts.call
    if call is None:
        return
    facts.error = facts.error or _status(call)
    facts.stalls, facts.stalled_s = int(number(call, names.STALLS)), number(call, names.STALLED_S)
    ended = [hold.end_ns for hold in facts.holds if text(hold, names.OUTCOME)]
    if ended and call.name.endswith(WAITING):
        facts.read_on_s = max(0.0, (call.end_ns - max(ended)) / 1e9)


def _status(call: SpanRecord) -> str:
    code = text(call, names.RPC_RESPONSE_STATUS_CODE)
    return "" if code in ("", "OK", "CANCELLED") else code


def _waits(spans: Sequence[SpanRecord], holds: Sequence[SpanRecord]) -> tuple[Wait, ...]:
    found: list[Wait] = []
    queues = _named(spans, names.SPAN_QUEUE)
    accepted_ns = min((queue.start_ns for queue in queues), default=0)
    for place, schedule in enumerate(_named(spans, names.SPAN_SCHEDULE)):
        since_ns = schedule.start_ns if place or not accepted_ns else accepted_ns
        found.append(_wait(schedule, (schedule.end_ns - since_ns) / 1e9, first=not place))
    if not found:
        for hold in holds:
            if names.WAIT_AHEAD in hold.attributes:
                found.append(_wait(hold, hold.duration_s, first=True))
    return tuple(found)


def _wait(span: SpanRecord, seconds: float, *, first: bool) -> Wait:
    ahead = span.attributes.get(names.WAIT_AHEAD, ())
    return Wait(
        seconds=max(0.0, seconds),
        no_lanes_s=number(span, names.WAIT_NO_LANES_S),
        load_s=number(span, names.WAIT_LOAD_S),
        before_router_s=number(span, names.WAIT_BEFORE_ROUTER_S),
        ahead=tuple(int(each) for each in ahead) if isinstance(ahead, tuple) else (),
        ahead_queue=int(number(span, names.WAIT_AHEAD_QUEUE)),
        lanes=int(number(span, names.WAIT_LANES)),
        first=first,
    )


def _losses(spans: Sequence[SpanRecord], holds: Sequence[SpanRecord]) -> tuple[Loss, ...]:
    found = []
    schedules = _named(spans, names.SPAN_SCHEDULE)
    firsts = _named(spans, names.SPAN_FIRST_TOKEN)
    for hold in holds:
        for event in hold.events:
            if event.name != names.EVENT_REQUEUED:
                continue
            later = next((each for each in schedules if each.end_ns >= event.at_ns), None)
            again_ns = next((each.end_ns for each in firsts if each.start_ns >= event.at_ns), 0)
            found.append(
                Loss(
                    worker=text(event, names.LOST_WORKER),
                    reason=text(event, names.REASON),
                    code=text(event, names.ERROR_TYPE),
                    tokens=int(number(event, names.RESUMED_TOKENS)),
                    cost_s=max(0.0, ((again_ns or hold.end_ns) - event.at_ns) / 1e9),
                    recovered=again_ns > 0,
                    next_worker="" if later is None else text(later, names.WORKER),
                )
            )
    return tuple(found)


def _read_lost_routers(facts: Facts) -> None:
    """A router that is lost never ends its span: what it told before is a child of a span that nobody has."""
    known = {span.span_id for span in facts.spans}
    queues = _named(facts.spans, names.SPAN_QUEUE)
    orphans = [span for span in queues if span.parent_id and span.parent_id not in known]
    claimed = [hold for hold in facts.holds if any(e.name == names.EVENT_CLAIMED for e in hold.events)]
    if not claimed:
        return
    gone = any(
        event.name == names.EVENT_CLAIMED and "gone" in text(event, names.REASON)
        for hold in claimed
        for event in hold.events
    )
    if not gone:
        return
    taker = claimed[-1]
    lost = {text(span, names.ROUTER) for span in orphans} - {"", text(taker, names.ROUTER)}
    facts.lost_routers = tuple(sorted(lost)) or ("",)
    pulled_ns = next((span.end_ns for span in queues if span.parent_id == taker.span_id), taker.start_ns)
    before = [
        span.end_ns
        for span in facts.spans
        if span.end_ns <= pulled_ns and span.parent_id != taker.span_id and span is not taker
    ]
    if before:
        facts.router_gap_s = (pulled_ns - max(before)) / 1e9


def _read_pauses(facts: Facts, hold: SpanRecord) -> None:
    since_ns, by = 0, ""
    for event in (*hold.events, SpanEvent(name=names.EVENT_RESUMED, at_ns=hold.end_ns)):
        if event.name == names.EVENT_PAUSED and not since_ns:
            since_ns, by = event.at_ns, text(event, names.PAUSED_BY)
        elif event.name in (names.EVENT_RESUMED, names.EVENT_REQUEUED) and since_ns:
            count, seconds = facts.paused.get(by, (0, 0.0))
            facts.paused[by] = (count + 1, seconds + max(0, event.at_ns - since_ns) / 1e9)
            since_ns = 0
