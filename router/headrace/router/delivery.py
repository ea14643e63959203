"""Where the tokens go: to the gateway that holds the client, or to the producer's subject on NATS."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from headrace.contract.queue_wire import encode_token_event
from headrace.contract.subjects import CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF, HEADER_CONTENT_TYPE
from headrace.contract.values import Outcome, TokenChunk
from headrace.router.gateways import Gateways
from headrace.router.ledger import Record
from headrace.router.outbox import Outbox
from headrace.runtime.nats_size import message_size
from headrace.runtime.nats_state import NatsHealth
from headrace.runtime.propagation import inject

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Address:
    """Where the events of a request are published."""

    subject: str
    as_json: bool
    headers: dict[str, str]


class Delivery:
    """Sends chunks and ends; never waits for a receiver. Loses nothing that is durable: what cannot be sent now is in
    the record while it runs, and in the outcome afterwards.
    """

    def __init__(self, connection: Client, gateways: Gateways, health: NatsHealth) -> None:
        self._connection = connection
        self._health = health
        self._gateways = gateways
        self._outbox = Outbox()
        self._addresses: dict[str, _Address] = {}
        """Of the requests that have something in the outbox, or will."""

    def tokens(self, record: Record, chunk: TokenChunk) -> None:
        """Sends the next tokens of a request."""
        if record.request.gateway:
            self._gateways.tokens(record.request.gateway, record.id, chunk)
        else:
            self._address(record)
            self._outbox.tokens(record.id, chunk)

    def finished(self, record: Record, outcome: Outcome) -> None:
        """Sends the end of a request, after its tokens."""
        if record.request.gateway:
            self._gateways.finished(record.request.gateway, record.id, outcome)
        else:
            self._address(record)
            self._outbox.finished(record.id, outcome)

    def _address(self, record: Record) -> None:
        if record.id not in self._addresses:
            kind = CONTENT_TYPE_JSON if record.as_json else CONTENT_TYPE_PROTOBUF
            headers = {HEADER_CONTENT_TYPE: kind}
            inject(record.trace, headers)
            self._addresses[record.id] = _Address(record.request.reply_to, record.as_json, headers)

    async def run(self) -> None:
        """Publishes to NATS until cancelled. While the broker is away, tokens are joined in the outbox."""
        while True:
            await self._health.wait_connected()
            deliveries, _ = await self._outbox.take()
            for delivery in deliveries:
                address = self._addresses[delivery.request_id]
                if delivery.tokens is not None:
                    await self._publish(address, delivery.request_id, delivery.tokens)
                if delivery.finished is not None:
                    await self._publish(address, delivery.request_id, delivery.finished)
                    del self._addresses[delivery.request_id]

    async def _publish(self, address: _Address, request_id: str, event: TokenChunk | Outcome) -> None:
        body = encode_token_event(request_id, event, as_json=address.as_json)
        if message_size(body, address.headers) > self._connection.max_payload:
            # It would cost the connection. Tokens are that many only where they waited long for a broker.
            log.warning("tokens.not_published", request_id=request_id, problem="too large for a message")
            return
        try:
            await self._connection.publish(address.subject, body, headers=address.headers)
        except (NatsError, OSError) as error:
            # The consumer sees the gap by the index, and has the durable outcome.
            log.warning("tokens.not_published", request_id=request_id, problem=type(error).__name__)
