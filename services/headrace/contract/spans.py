"""Spans that have ended, as they cross the mesh, and what a gateway remembers of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

AttributeValue: TypeAlias = str | bool | int | float | tuple[str, ...] | tuple[int, ...]
Attributes: TypeAlias = Mapping[str, AttributeValue]


class SpanKind(enum.Enum):
    """What a span stands for; the value is the word of OpenTelemetry."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """Something that happened while a span was open."""

    name: str
    at_ns: int
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanLink:
    """A span that has to do with another one. Ids are lower-case hex."""

    trace_id: str
    span_id: str
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """One span. Ids are lower-case hex, times nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    """Empty for the root of a trace."""
    name: str
    kind: SpanKind = SpanKind.INTERNAL
    start_ns: int
    end_ns: int
    failed: bool = False
    attributes: Attributes = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    process: str = ""
    """`gateway`, `router` or `worker`."""
    instance: str = ""

    @property
    def duration_s(self) -> float:
        return max(0, self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpan:
    """An encoded span and where it belongs, so that it can be put away unread."""

    request_ids: tuple[str, ...]
    """Empty for a call that named no request."""
    trace_id: str
    span: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanBundle:
    """Spans that have ended in one process."""

    process: str
    instance: str
    spans: tuple[RequestSpan, ...] = ()
    dropped: int = 0
    """Spans that were not sent since the last bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """One request, as its spans tell so far. What no span tells is empty."""

    request_id: str
    trace_id: str
    started_s: float
    """Unix time."""
    duration_s: float
    model: str = ""
    tenant: str = ""
    priority: str = ""
    outcome: str = ""
    error: str = ""
    """What failed: a code of the errors, or a gRPC status."""
    spans: int = 0
    cause: str = ""
    """What took the time, or went wrong, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceMemory:
    """How much a gateway remembers, and what was lost of it."""

    requests: int = 0
    bytes: int = 0
    max_bytes: int = 0
    dropped_spans: int = 0
    on: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceList:
    """What a gateway remembers; the latest first."""

    traces: tuple[TraceSummary, ...] = ()
    memory: TraceMemory = TraceMemory()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTrace:
    """All that a gateway remembers of one request."""

    causes: tuple[str, ...]
    """In a sentence each, what explains it best first."""
    summary: TraceSummary
    spans: tuple[SpanRecord, ...]
    """In the order of their start."""
    others: tuple[str, ...] = ()
    """Other requests of the trace that was asked for."""
