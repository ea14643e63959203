"""Recent requests and their spans for the page, as a gateway remembers them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from headrace.client.admin import AdminClient
from headrace.contract.errors import InvalidRequest, Unavailable
from headrace.contract.spans import RequestTrace, SpanRecord, TraceSummary

LISTED = 100
"""Requests in one list."""
AT_ONCE = 4
"""Questions to gateways at a time; further ones wait."""
MAX_SPANS = 2_000
"""Of one request: a page of more could not be read."""
MAX_ID = 64


class Traces:
    """Asks the gateways that there are, one after another until one answers."""

    def __init__(self, gateways: Callable[[], Sequence[str]], *, token: str) -> None:
        """`gateways` gives their addresses, `token` is their gateway.admin_token, "" for none."""
        self._gateways = gateways
        self._token = token
        self._room = asyncio.Semaphore(AT_ONCE)

    async def recent(self, *, failed_only: bool) -> dict[str, Any]:
        """The latest first, and how much is remembered. Raises what the gateway does, and Unavailable."""
        async with self._room, self._client() as admin:
            found = await admin.traces(limit=LISTED, failed_only=failed_only)
        return {
            "traces": [_summary(trace) for trace in found.traces],
            "on": found.memory.on,
            "remembered": found.memory.requests,
            "dropped": found.memory.dropped_spans,
        }

    async def one(self, wanted: str) -> dict[str, Any]:
        """The spans of the request or trace of that id. Raises NotFound, InvalidRequest, Unavailable."""
        if not 1 <= len(wanted) <= MAX_ID:
            raise InvalidRequest("id", "must be the id of a request or of a trace")
        async with self._room, self._client() as admin:
            found = await admin.trace(wanted)
        return _waterfall(found)

    def _client(self) -> AdminClient:
        addresses = self._gateways()
        if not addresses:
            raise Unavailable("gateway", "none has answered yet; gateways remember traces")
        return AdminClient(",".join(addresses), token=self._token)


def _summary(trace: TraceSummary) -> dict[str, Any]:
    return {
        "request_id": trace.request_id,
        "trace_id": trace.trace_id,
        "started": round(trace.started_s * 1000),
        "took_s": round(trace.duration_s, 4),
        "model": trace.model,
        "tenant": trace.tenant,
        "priority": trace.priority,
        "outcome": trace.outcome,
        "error": trace.error,
        "spans": trace.spans,
        "cause": trace.cause,
    }


def _waterfall(found: RequestTrace) -> dict[str, Any]:
    """Times of spans and events are milliseconds since the first span began."""
    begin_ns = min((span.start_ns for span in found.spans), default=0)
    return {
        "causes": found.causes,
        "summary": _summary(found.summary),
        "others": found.others[:20],
        "spans": [_span(span, begin_ns) for span in found.spans[:MAX_SPANS]],
        "left_out": max(0, len(found.spans) - MAX_SPANS),
    }


def _span(span: SpanRecord, begin_ns: int) -> dict[str, Any]:
    def after_ms(at_ns: int) -> float:
        return round((at_ns - begin_ns) / 1e6, 3)

    return {
        "id": span.span_id,
        "parent": span.parent_id,
        "name": span.name,
        "kind": span.kind.value,
        "process": span.process,
        "instance": span.instance,
        "at": after_ms(span.start_ns),
        "took": round(span.duration_s * 1000, 3),
        "failed": span.failed,
        "attributes": dict(span.attributes),
        "events": [
            {"name": event.name, "at": after_ms(event.at_ns), "attributes": dict(event.attributes)}
            for event in span.events
        ],
        "links": [{"trace": link.trace_id, "request": link.request_id} for link in span.links[:50]],
    }
