"""The gateway's memory of recent requests: filled from NATS, asked by operators."""

from __future__ import annotations

import asyncio

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.errors import InvalidRequest, MalformedMessage, NotFound, Unavailable
from headrace.contract.span_wire import read_bundle
from headrace.contract.spans import RequestTrace, TraceList, TraceSummary
from headrace.contract.subjects import SPANS_WILDCARD
from headrace.runtime.settings_traces import TraceSettings
from headrace.traces.explain import explain, summarise
from headrace.traces.memory import Memory, Remembered

log = structlog.get_logger(__name__)

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
MAX_ID = 200
_PENDING_BUNDLES = 4_096
_PENDING_BYTES = 16 * 1024 * 1024
"""Bundles that wait to be put away. When full, the newest are lost."""
_AT_ONCE = 10
"""Requests that are read in one go: some milliseconds."""


class Recent:
    """Listens to all processes of the mesh. Every gateway remembers the same, from its own start on."""

    def __init__(self, nc: Client, settings: TraceSettings) -> None:
        self._nc = nc
        self._on = settings.recent
        self._memory = Memory(
            max_bytes=settings.recent_max_bytes, max_spans=settings.recent_max_spans, on=settings.recent
        )

    async def listen(self) -> None:
        """Subscribes; the subscription ends with the connection."""
        if self._on:
            await self._nc.subscribe(
                SPANS_WILDCARD,
                cb=self._hear,
                pending_msgs_limit=_PENDING_BUNDLES,
                pending_bytes_limit=_PENDING_BYTES,
            )

    async def _hear(self, message: Msg) -> None:
        try:
            self._memory.take(read_bundle(message.data))
        except MalformedMessage as error:
            log.warning("spans.malformed", subject=message.subject[:80], problem=str(error))

    async def list(self, limit: int, *, failed_only: bool) -> TraceList:
        """The latest requests. Raises InvalidRequest("limit")."""
        if limit > MAX_LIMIT:
            raise InvalidRequest("limit", f"must be at most {MAX_LIMIT} (was {limit})")
        found: list[TraceSummary] = []
        for number, entry in enumerate(self._memory.latest(len(self._memory))):
            if len(found) >= (limit or DEFAULT_LIMIT):
                break
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            summary = self._summary(entry)
            if not summary.request_id and not summary.error:
                continue  # a call of no request that went well, such as somebody's look at the members
            if not failed_only or (summary.outcome or "completed") != "completed" or summary.error:
                found.append(summary)
        return TraceList(traces=tuple(found), memory=self._memory.state)

    def get(self, wanted: str) -> RequestTrace:
        """All of one request. Raises InvalidRequest("id"), NotFound, or Unavailable where nothing is remembered."""
        if not 1 <= len(wanted) <= MAX_ID:
            raise InvalidRequest("id", "must be the id of a request or of a trace")
        if not self._on:
            raise Unavailable("traces", "traces.recent is off at this gateway")
        found = self._memory.find(wanted)
        if found is None:
            raise NotFound("span remembered here of a request or trace with the id", wanted)
        entry, others = found
        spans = entry.decode()
        return RequestTrace(
            causes=tuple(explain(spans)), summary=self._summary(entry), spans=spans, others=others
        )

    @staticmethod
    def _summary(entry: Remembered) -> TraceSummary:
        return summarise(entry.key, entry.decode())
