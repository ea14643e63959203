"""The facts of a request in words: what went wrong, then what held it up, the longest first, then what it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from headrace.contract.spans import SpanRecord, TraceSummary
from headrace.runtime import trace_names as names
from headrace.traces.facts import Facts, Loss, Wait, facts_of, number, text

Cause = tuple[float, str]
"""How many seconds it explains, and the sentence."""

WORTH_S = 0.03
WORTH_SHARE = 0.05
"""What held a request up is worth a sentence from so many seconds, and from this part of its whole time, on."""
LARGE = 2
MORE_TOKENS = 64
"""A neighbour is a large one with so many times the tokens, and at least so many more."""
SLOW_BROKER_S = 0.1
"""A broker answers within milliseconds."""
CLASSES = ("realtime", "high", "normal", "batch")


def explain(spans: Iterable[SpanRecord]) -> list[str]:
    """Sentences about one request, the dominant cause first. Never empty: with no spans it says so."""
    facts = facts_of(spans)
    if not facts.spans:
        return ["Nothing is known of it."]
    held_up = [
        cause
        for find in _HOLD_UPS
        for cause in find(facts)
        if cause[0] >= max(WORTH_S, WORTH_SHARE * facts.total_s)
    ]
    held_up.sort(key=lambda cause: -cause[0])
    sentences = [*_ending(facts), *(sentence for _, sentence in held_up), *_work(facts)]
    if not held_up and facts.outcome == "completed":
        sentences.insert(0, f"Nothing held it up: it took {_s(facts.total_s)}.")
    if not facts.outcome and not facts.error:
        sentences.append("No span tells how it ended: it goes on, or its processes were lost.")
    return sentences


def summarise(key: str, spans: Iterable[SpanRecord]) -> TraceSummary:
    """One request in a list. `key` is its id, or its trace's where it has none."""
    facts = facts_of(spans)
    trace_id = facts.spans[0].trace_id if facts.spans else ""
    about = next((span for span in (*facts.holds, facts.call, *facts.spans) if span is not None), None)
    if about is not None and facts.holds:
        trace_id = facts.holds[0].trace_id
    return TraceSummary(
        request_id="" if key == trace_id else key,
        trace_id=trace_id,
        started_s=min((span.start_ns for span in facts.spans), default=0) / 1e9,
        duration_s=facts.total_s,
        model="" if about is None else text(about, names.GEN_AI_REQUEST_MODEL),
        tenant="" if about is None else text(about, names.TENANT),
        priority="" if about is None else text(about, names.PRIORITY),
        outcome=facts.outcome,
        error=facts.error,
        spans=len(facts.spans),
        cause=explain(facts.spans)[0],
    )


# How it ended, where that is not as it should.


def _ending(facts: Facts) -> Iterator[str]:
    tokens = int(max((number(hold, names.GEN_AI_USAGE_OUTPUT_TOKENS) for hold in facts.holds), default=0))
    limit = int(max((number(hold, names.OUTPUT_LIMIT) for hold in facts.holds), default=0))
    made = f"after {tokens} of at most {limit} tokens" if tokens else "before its first token"
    match facts.outcome:
        case "expired":
            deadline_s = max((number(hold, names.DEADLINE_S) for hold in facts.holds), default=0.0)
            of = f" of {_s(deadline_s)}" if deadline_s else ""
            where = "while it waited for a lane, " if not _ran(facts) else ""
            yield f"Its deadline{of} passed {where}{made}."
        case "failed":
            yield from _failed(facts)
        case "rejected":
            yield f"It was refused with {facts.error or 'no reason'}, {made}."
        case "cancelled":
            yield f"Its client gave it up {made}."
        case "" if facts.error and not facts.holds:
            yield f"The gateway refused it with {facts.error}."


def _failed(facts: Facts) -> Iterator[str]:
    codes = {loss.code for loss in facts.losses}
    attempts = [span for span in facts.spans if span.name == names.SPAN_SCHEDULE]
    workers = _listed(sorted({text(span, names.WORKER) for span in attempts}))
    tried = "its one attempt" if len(attempts) == 1 else f"each of its {len(attempts)} attempts"
    if attempts and codes == {"ENGINE_FAILED"}:
        yield f"The engine failed at {tried}, on {workers}; it was given up with {facts.error}."
    elif attempts and codes == {""}:
        yield f"It lost its worker at {tried}, on {workers}; it was given up with {facts.error}."
    else:
        yield f"It was given up with {facts.error or 'no reason'}."


def _ran(facts: Facts) -> bool:
    return any(span.name == names.SPAN_SCHEDULE for span in facts.spans)


# What held it up.


def _publishing(facts: Facts) -> Iterator[Cause]:
    if facts.lookup_s >= SLOW_BROKER_S:
        yield (
            facts.lookup_s,
            f"NATS was slow: it took {_s(facts.lookup_s)} to say whether its id has an outcome.",
        )
    if facts.publish_s >= SLOW_BROKER_S:
        yield facts.publish_s, f"NATS was slow: it took {_s(facts.publish_s)} to confirm the request."


def _storing(facts: Facts) -> Iterator[Cause]:
    if facts.store_s >= SLOW_BROKER_S:
        tries = f", after {_count(facts.retries, 'failed try', 'failed tries')}" if facts.retries else ""
        yield facts.store_s, f"NATS was slow: it took {_s(facts.store_s)} to store the outcome{tries}."


def _waiting(facts: Facts) -> Iterator[Cause]:
    for wait in facts.waits:
        if not wait.first:
            continue  # a later one is part of what a loss cost
        if wait.no_lanes_s:
            loaded = f"; the one that came had loaded it for {_s(wait.load_s)}" if wait.load_s else ""
            yield (
                wait.no_lanes_s,
                f"No worker had the model loaded for {_s(wait.no_lanes_s)} of its wait{loaded}.",
            )
        queued_s = wait.seconds - wait.no_lanes_s - (0.0 if wait.no_lanes_s else wait.before_router_s)
        queued_s -= facts.router_gap_s if wait.seconds > facts.router_gap_s else 0.0
        if wait.before_router_s and not wait.no_lanes_s:
            yield wait.before_router_s, f"It waited {_s(wait.before_router_s)} before its router started."
        if queued_s >= WORTH_S:
            yield queued_s, _behind(wait, queued_s)


def _behind(wait: Wait, queued_s: float) -> str:
    total = sum(wait.ahead)
    if not total:
        if wait.lanes:
            return f"It waited {_s(queued_s)} in the queue, for a lane or for NATS: no other request was started."
        return f"It waited {_s(queued_s)} in the queue, and there was no lane."
    classes = [f"{count} {name}" for name, count in zip(CLASSES, wait.ahead, strict=False) if count]
    own = ""
    if wait.ahead_queue:
        own = (
            ", all of them of its own queue"
            if wait.ahead_queue == total
            else f", {wait.ahead_queue} of them of its own queue"
        )
    return (
        f"It waited {_s(queued_s)} in the queue behind {_count(total, 'request', 'requests')}"
        f" ({_listed(classes)}{own}), with {_count(wait.lanes, 'lane', 'lanes')}."
    )


def _losing(facts: Facts) -> Iterator[Cause]:
    if facts.outcome == "failed":
        return  # that is how it ended
    for loss in facts.losses:
        yield max(loss.cost_s, WORTH_SHARE * facts.total_s, WORTH_S), _lost(loss)


def _lost(loss: Loss) -> str:
    after = f"after {_count(loss.tokens, 'token', 'tokens')}"
    where = f", on {loss.next_worker}" if loss.next_worker else ""
    waited = f"{_s(loss.cost_s)} went by until its {'next token' if loss.recovered else 'end'}{where}."
    if loss.code:
        return f"The engine of worker {loss.worker} failed ({loss.code}) {after}; {waited}"
    if loss.reason == "its worker was lost":
        return f"Worker {loss.worker} was lost {after}; {waited}"
    return f"It was taken off worker {loss.worker} {after}, as {loss.reason}; {waited}"


def _losing_routers(facts: Facts) -> Iterator[Cause]:
    if facts.lost_routers:
        who = _listed([f"router {router}" for router in facts.lost_routers if router]) or "its router"
        taker = text(facts.holds[-1], names.ROUTER)
        gap = (
            f"; {_s(facts.router_gap_s)} went by until {taker} went on with it" if facts.router_gap_s else ""
        )
        floor = max(WORTH_SHARE * facts.total_s, WORTH_S)
        yield max(facts.router_gap_s, floor), f"{who[:1].upper()}{who[1:]} was lost{gap}."


def _pausing(facts: Facts) -> Iterator[Cause]:
    for by, (count, seconds) in facts.paused.items():
        times = "" if count == 1 else f", {count} times"
        yield seconds, f"It was paused for {_s(seconds)}{times}, as {by} work went before it."


def _stalling(facts: Facts) -> Iterator[Cause]:
    if facts.stalled_s:
        yield (
            facts.stalled_s,
            f"The client was slow: for {_s(facts.stalled_s)} it took nothing though messages were ready"
            f" ({_count(facts.stalls, 'time', 'times')}).",
        )
    elif facts.read_on_s >= SLOW_BROKER_S:
        yield (
            facts.read_on_s,
            f"The client was slow: it read on for {_s(facts.read_on_s)} after the outcome was there.",
        )


def _neighbours(facts: Facts) -> Iterator[Cause]:
    for span in facts.spans:
        own, longest = number(span, names.CONTEXT_TOKENS), number(span, names.BATCH_LONGEST_PROMPT)
        if longest < LARGE * own or longest - own < MORE_TOKENS or not own:
            continue
        first = next((each for each in facts.spans if _is_first_token_of(each, span)), span)
        took_s = first.duration_s - number(first, names.PAUSED_S)
        share = own / max(own, number(span, names.BATCH_PROMPT_TOKENS))
        yield (
            took_s * (1 - share),
            f"It shared its batch with a prompt of {longest:.0f} tokens, its own having {own:.0f}:"
            f" its first token took {_s(took_s)} there.",
        )


def _is_first_token_of(span: SpanRecord, generate: SpanRecord) -> bool:
    return span.name == names.SPAN_FIRST_TOKEN and span.parent_id == generate.span_id


_HOLD_UPS: tuple[Callable[[Facts], Iterator[Cause]], ...] = (
    _publishing,
    _waiting,
    _losing,
    _losing_routers,
    _pausing,
    _neighbours,
    _stalling,
    _storing,
)


# What it took.


def _work(facts: Facts) -> Iterator[str]:
    for span in facts.spans:
        if not span.name.startswith("generate ") or span.failed:
            continue
        first = next((each for each in facts.spans if _is_first_token_of(each, span)), None)
        made = int(number(span, names.GEN_AI_USAGE_OUTPUT_TOKENS))
        if first is None or not made:
            continue
        first_s = first.duration_s - number(first, names.PAUSED_S)
        rest_s = (
            span.duration_s
            - first.duration_s
            - (number(span, names.PAUSED_S) - number(first, names.PAUSED_S))
        )
        shared = number(span, names.STEPS_SHARED)
        along = f", each step shared with {shared:.0f} others" if shared >= 1 else ""
        per = f", {1000 * rest_s / (made - 1):.1f} ms a token{along}" if made > 1 else ""
        yield (
            f"On {text(span, names.WORKER)}, lane {number(span, names.LANE):.0f}: {_s(first_s)} to the first"
            f" token of a prompt of {number(span, names.CONTEXT_TOKENS):.0f}, then {_s(max(0.0, rest_s))}"
            f" for {_count(made - 1, 'more', 'more')}{per}."
        )


# Words.


def _s(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _count(number_of: int, one: str, many: str) -> str:
    return f"{number_of} {one if number_of == 1 else many}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
