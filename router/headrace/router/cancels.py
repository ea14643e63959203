"""Cancellations: heard by every router on `hr.v1.cancel.>`, obeyed and answered by the one that holds the request."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import (
    CANCEL_WILDCARD,
    FOLLOWED,
    HEADER_CANCEL_FOR,
    HEADER_CANCEL_KIND,
    parse_cancel,
)
from headrace.contract.values import Outcome, OutcomeKind
from headrace.router.conductor import Conductor
from headrace.router.core.events import CancelAsked
from headrace.router.gateways import Gateways
from headrace.router.ledger import Ledger, Record


class Cancels:
    """Listens for cancellations. A request that no router holds yet is remembered, and ended when it is pulled."""

    def __init__(
        self, connection: Client, *, ledger: Ledger, gateways: Gateways, conductor: Conductor
    ) -> None:
        self._connection = connection
        self._ledger = ledger
        self._gateways = gateways
        self._conductor = conductor
        self._replies: set[asyncio.Future[None]] = set()

    async def listen(self) -> None:
        """Subscribes; the subscription ends with the connection."""
        await self._connection.subscribe(CANCEL_WILDCARD, cb=self._on_cancel)

    async def _on_cancel(self, message: Msg) -> None:
        try:
            tenant, request_id = parse_cancel(message.subject)
        except InvalidRequest:
            return  # it names nothing that could be cancelled
        headers = message.headers or {}
        record = self._ledger.find(tenant, request_id)
        if gateway := headers.get(HEADER_CANCEL_FOR):
            if self._followed(tenant, request_id, record, gateway):
                self._conductor.follow_no_more(gateway, (request_id,))
                if message.reply:
                    self._answer(message, FOLLOWED)
                return
            if record is None:
                return  # another router has it, and knows who follows it; or none, and the gateway asks again
        if record is not None and message.reply:
            record.when_settled().add_done_callback(lambda done: self._reply(message, done))
        expired = headers.get(HEADER_CANCEL_KIND) == OutcomeKind.EXPIRED.value
        kind = OutcomeKind.EXPIRED if expired else OutcomeKind.CANCELLED
        self._conductor.tell(CancelAsked(tenant=tenant, request_id=request_id, kind=kind))

    def _followed(self, tenant: str, request_id: str, record: Record | None, gateway: str) -> bool:
        """Whether clients of another gateway than this one wait for a request."""
        if record is not None and record.followers - {gateway}:
            return True
        return self._gateways.follow_elsewhere(tenant, request_id, gateway)

    def _reply(self, message: Msg, settled: asyncio.Future[Outcome]) -> None:
        """Answers when the outcome is durable: with its kind, be it the cancellation or an end that came before it."""
        if not settled.cancelled():
            self._answer(message, settled.result().kind.value)

    def _answer(self, message: Msg, word: str) -> None:
        task = asyncio.ensure_future(message.respond(word.encode()))
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)
