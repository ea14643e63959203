"""How a process on NATS tells the gateways of spans that have ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from nats.aio.client import Client
from nats.errors import Error as NatsError

from headrace.contract.subjects import is_name, span_subject
from headrace.runtime.recent_spans import FLUSH_S, RecentSpans

MAX_UNSENT_BYTES = 1024 * 1024
"""What may wait to be sent to NATS before spans stay where they are: requests and outcomes come first."""
MAX_BUNDLE_BYTES = 512 * 1024
"""Of a bundle that a worker tells: ours are smaller."""
MAX_PASSED_ON = 256
"""Bundles of workers that wait here. When full, the oldest is lost."""


class SpanSender:
    """Publishes this process's spans, and a router those of its workers. Nobody waits for it; what the broker has no
    room for waits here, which is bounded.
    """

    def __init__(self, nc: Client, recent: RecentSpans | None, process: str, instance: str) -> None:
        self._nc = nc
        self._recent = recent
        self._subject = span_subject(process, instance)
        self._passed_on: deque[tuple[str, bytes]] = deque(maxlen=MAX_PASSED_ON)

    async def run(self) -> None:
        """Sends what ends, until cancelled."""
        if self._recent is None:
            return
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Sends what is there."""
        while self._can_send():
            if self._passed_on:
                await self._publish(*self._passed_on.popleft())
            elif self._recent is not None and (bundle := self._recent.take()):
                await self._publish(self._subject, bundle)
            else:
                return
            await asyncio.sleep(0)  # so that nobody's tokens wait for more than one bundle

    def pass_on(self, worker: str, bundle: bytes) -> None:
        """Takes what a worker has told."""
        if self._recent is not None and len(bundle) <= MAX_BUNDLE_BYTES and is_name(worker):
            self._passed_on.append((span_subject("worker", worker), bundle))

    def _can_send(self) -> bool:
        return self._nc.is_connected and self._nc.pending_data_size < MAX_UNSENT_BYTES

    async def _publish(self, subject: str, bundle: bytes) -> None:
        if len(bundle) <= self._nc.max_payload:
            with contextlib.suppress(NatsError, OSError):
                await self._nc.publish(subject, bundle)
