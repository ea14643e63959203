"""Spans of made-up requests: times in seconds from an origin."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.contract.spans import AttributeValue, SpanEvent, SpanKind, SpanRecord
from headrace.runtime import trace_names as names

ORIGIN_NS = 1_700_000_000_000_000_000
TRACE = "a" * 32
ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def at(seconds: float) -> int:
    return ORIGIN_NS + round(seconds * 1e9)


@dataclass
class Story:
    """The spans of one request, told one by one."""

    spans: list[SpanRecord] = field(default_factory=list)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def span(
        self,
        name: str,
        start_s: float,
        end_s: float,
        *,
        parent: str = "",
        kind: SpanKind = SpanKind.INTERNAL,
        events: tuple[SpanEvent, ...] = (),
        failed: bool = False,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> str:
        """Its id."""
        span_id = f"{next(self._ids):016x}"
        self.spans.append(
            SpanRecord(
                trace_id=TRACE,
                span_id=span_id,
                parent_id=parent,
                name=name,
                kind=kind,
                start_ns=at(start_s),
                end_ns=at(end_s),
                events=events,
                failed=failed,
                attributes={names.REQUEST_ID: ID, **(attributes or {})},
                process="router",
                instance="r-1",
            )
        )
        return span_id

    def hold(
        self,
        end_s: float,
        *,
        events: tuple[SpanEvent, ...] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        router: str = "r-1",
    ) -> str:
        """A router's, from acceptance at 0, completed unless `attributes` say otherwise."""
        said = {
            names.OUTCOME: "completed",
            names.ROUTER: router,
            names.GEN_AI_REQUEST_MODEL: "m",
            **(attributes or {}),
        }
        return self.span(
            names.SPAN_PROCESS_REQUEST, 0, end_s, kind=SpanKind.CONSUMER, events=events, attributes=said
        )

    def queue(self, end_s: float, hold: str, router: str = "r-1") -> None:
        self.span(names.SPAN_QUEUE, 0, end_s, parent=hold, attributes={names.ROUTER: router})

    def schedule(
        self, start_s: float, end_s: float, hold: str, attempt: int = 1, **more: AttributeValue
    ) -> None:
        said: dict[str, AttributeValue] = {
            names.ATTEMPT: attempt,
            names.WORKER: f"w-{attempt}",
            names.WAIT_LANES: 2,
            names.WAIT_AHEAD: (0, 0, 0, 0),
        }
        said |= {f"headrace.wait.{name}": value for name, value in more.items()}
        self.span(names.SPAN_SCHEDULE, start_s, end_s, parent=hold, attributes=said)

    def generate(
        self, start_s: float, first_s: float, end_s: float, hold: str, **more: AttributeValue
    ) -> None:
        said: dict[str, AttributeValue] = {
            names.WORKER: "w-1",
            names.LANE: 0,
            names.CONTEXT_TOKENS: 10,
            names.GEN_AI_USAGE_OUTPUT_TOKENS: 11,
            names.STEPS_SHARED: 3.0,
        }
        said |= {f"headrace.batch.{name}": value for name, value in more.items()}
        span = self.span("generate m", start_s, end_s, parent=hold, attributes=said)
        self.span(names.SPAN_FIRST_TOKEN, start_s, first_s, parent=span)
        self.span(names.SPAN_STREAM, first_s, end_s, parent=span)

    def call(self, start_s: float, end_s: float, **said: AttributeValue) -> str:
        """The client's, at a gateway."""
        return self.span(
            "headrace.v1.InferenceService/Generate",
            start_s,
            end_s,
            kind=SpanKind.SERVER,
            attributes={f"headrace.{name}": value for name, value in said.items()},
        )


def event(name: str, at_s: float, **said: AttributeValue) -> SpanEvent:
    return SpanEvent(
        name=name, at_ns=at(at_s), attributes={f"headrace.{key}": value for key, value in said.items()}
    )
