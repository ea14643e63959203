"""The spans of one request as lines of text: what began when, under what, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.contract.spans import Attributes, SpanRecord
from headrace.runtime import trace_names as names

BAR = 40
"""Characters of the bar that stands for the whole time."""
SHOWN: tuple[tuple[str, str], ...] = (
    (names.OUTCOME, ""),
    (names.ERROR_TYPE, ""),
    (names.WORKER, "on "),
    (names.ATTEMPT, "attempt "),
    (names.BATCH_SIZE, "batch of "),
    (names.CONTEXT_TOKENS, "context "),
    (names.GEN_AI_USAGE_OUTPUT_TOKENS, "tokens "),
    (names.STEPS_SHARED, "shared with "),
    (names.PAUSED_S, "paused s "),
    (names.WAIT_NO_LANES_S, "no lanes s "),
    (names.STALLED_S, "client slow s "),
    (names.DELIVERIES, "delivery "),
    (names.REASON, ""),
    (names.PAUSED_BY, "by "),
    (names.LOST_WORKER, "lost "),
    (names.QUEUE_POSITION, "ahead "),
    (names.RESUMED_TOKENS, "had tokens "),
)
"""What of a span or an event is shown, and the word before it."""
_ALONE = frozenset(
    {(names.DELIVERIES, 1), (names.RESUMED_TOKENS, 0), (names.STEPS_SHARED, 0.0), (names.ATTEMPT, 1)}
)
"""Not worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One span, or an event of one."""

    depth: int
    title: str
    where: str
    """Process and instance; empty for an event."""
    start_s: float
    """From the beginning of the trace."""
    duration_s: float | None
    """None = an event."""
    failed: bool
    notes: str

    def bar(self, total_s: float) -> str:
        """Its place in the whole time."""
        if total_s <= 0:
            return "█".ljust(BAR)
        begin = min(BAR - 1, int(self.start_s / total_s * BAR))
        if self.duration_s is None:
            return " " * begin + "◆" + " " * (BAR - begin - 1)
        length = max(1, min(BAR - begin, round(self.duration_s / total_s * BAR)))
        return (" " * begin + "█" * length).ljust(BAR)


def waterfall(spans: Sequence[SpanRecord]) -> tuple[list[Line], float]:
    """The lines, children under their parents, and the whole time in seconds. A span whose parent is not there stands
    at the left.
    """
    if not spans:
        return [], 0.0
    origin_ns = min(span.start_ns for span in spans)
    total_s = (max(span.end_ns for span in spans) - origin_ns) / 1e9
    known = {span.span_id for span in spans}
    children: dict[str, list[SpanRecord]] = {}
    for span in sorted(spans, key=lambda each: (each.start_ns, -each.end_ns)):
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    lines: list[Line] = []
    waiting = [(span, 0) for span in reversed(children.get("", []))]
    seen: set[str] = set()
    while waiting:
        span, depth = waiting.pop()
        if span.span_id in seen:
            continue  # a batch that is remembered twice, or a circle that somebody made up
        seen.add(span.span_id)
        lines += _lines_of(span, depth, origin_ns)
        waiting += [(child, depth + 1) for child in reversed(children.get(span.span_id, []))]
    return lines, total_s


def _lines_of(span: SpanRecord, depth: int, origin_ns: int) -> Iterable[Line]:
    yield Line(
        depth=depth,
        title=_short(span.name),
        where=f"{span.process} {span.instance}".strip(),
        start_s=(span.start_ns - origin_ns) / 1e9,
        duration_s=span.duration_s,
        failed=span.failed,
        notes=_notes(span.attributes),
    )
    for event in span.events:
        yield Line(
            depth=depth + 1,
            title=event.name,
            where="",
            start_s=(event.at_ns - origin_ns) / 1e9,
            duration_s=None,
            failed=False,
            notes=_notes(event.attributes),
        )


def _short(name: str) -> str:
    """Without the package of a gRPC method, and without the pattern of a subject."""
    first, blank, rest = name.partition(" ")
    if "/" in first and not blank:
        return first.rsplit(".", 1)[-1]
    return f"{first} {'.'.join(rest.split('.')[:3])}" if rest.startswith("hr.v1.") else name


def _notes(attributes: Attributes) -> str:
    return ", ".join(
        f"{word}{attributes[name]}"
        for name, word in SHOWN
        if name in attributes and (name, attributes[name]) not in _ALONE
    )
