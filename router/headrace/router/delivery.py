"""Where the tokens go: to the gateways that hold clients, and to the producer's subject on NATS."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from headrace.contract.deliver import Delivery as Deliverable
from headrace.contract.queue_wire import encode_token_event
from headrace.contract.subjects import CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF, HEADER_CONTENT_TYPE
from headrace.contract.values import Outcome, TokenChunk, TraceContext
from headrace.router.gateways import Gateways
from headrace.router.leases import Leases
from headrace.router.ledger import Record
from headrace.router.outbox import Outbox
from headrace.router.unread import Unread
from headrace.runtime.nats_size import message_size
from headrace.runtime.nats_state import NatsHealth
from headrace.runtime.propagation import inject

log = structlog.get_logger(__name__)

MAX_SUBJECTS = 16
"""Reply subjects of one request, where several messages asked for the same; further ones have the durable outcome."""


@dataclass(frozen=True, slots=True)
class _Address:
    """Where the events of a request are published."""

    request_id: str
    subject: str
    as_json: bool
    headers: dict[str, str]
    record: Record | None
    """None for a message that holds no request."""

    @property
    def key(self) -> str:
        """In the outbox. A subject holds no space."""
        return f"{self.request_id} {self.subject}"


class Delivery:
    """Sends chunks and ends; never waits for a receiver. Loses nothing that is durable: what cannot be sent now is in
    the record while it runs, and in the outcome afterwards.

    A gateway knows whose tokens to take. On NATS nobody does: there, tokens of a request whose lease may have lapsed
    are held back until it is known that no other router goes on with it.
    """

    def __init__(self, connection: Client, *, gateways: Gateways, leases: Leases, health: NatsHealth) -> None:
        self._connection = connection
        self._health = health
        self._gateways = gateways
        self._leases = leases
        self._outbox = Outbox()
        self._addresses: dict[str, list[_Address]] = {}
        """By request, of those whose events go to NATS, from the first event to the end: at most MAX_SUBJECTS each."""
        self._by_key: dict[str, _Address] = {}
        self._held_back: dict[str, Deliverable] = {}
        """By key: what waits for the answer whose the request is."""
        self._publishing = asyncio.Lock()
        """Held while what was taken from the outbox is on its way."""

    def tokens(self, record: Record, chunk: TokenChunk) -> None:
        """Sends the next tokens of a request, which `record` has by now."""
        self._gateways.tokens(record, chunk)
        for address in self._addresses_of(record):
            self._outbox.tokens(address.key, chunk)

    def finished(self, record: Record, outcome: Outcome) -> None:
        """Sends the end of a request, after its tokens."""
        self._gateways.finished(record, outcome)
        for address in self._addresses_of(record):
            self._outbox.finished(address.key, outcome)
        self._addresses.pop(record.id, None)

    def also(self, record: Record, again: Record) -> None:
        """A second message asks for the same request: its consumer gets the same events, from index 0 on."""
        if again.request.gateway:
            record.followers.add(again.request.gateway)
            self._gateways.bring_in_step(record)
            return
        addresses = self._addresses_of(record)
        address = _address_of(again)
        if address.key in self._by_key or len(addresses) >= MAX_SUBJECTS:
            return
        self._addresses.setdefault(record.id, []).append(address)
        self._by_key[address.key] = address
        if (output := record.output) is not None:
            self._outbox.tokens(address.key, output)

    def refused(self, record: Record, outcome: Outcome) -> None:
        """Tells the consumer of a message, and nobody else who waits for its id, how that message ended."""
        if record.request.gateway:
            self._gateways.refused(record.request.gateway, outcome)
        else:
            self._end(_address_of(record), outcome)

    def unread(self, message: Unread, subject: str, outcome: Outcome) -> None:
        """Tells on `subject` how a message ended that holds no request."""
        address = _address(message.request_id, subject, message.as_json, message.trace, None)
        self._end(address, outcome)

    def _end(self, address: _Address, outcome: Outcome) -> None:
        """Sends an end, unless a request of that id is told there."""
        if address.key not in self._by_key:
            self._by_key[address.key] = address
            self._outbox.finished(address.key, outcome)

    async def hand_on(self, record: Record) -> None:
        """Publishes what waits of a request: the next events of it will be another router's."""
        self._gateways.hand_on(record)
        async with self._publishing:
            for address in self._addresses.pop(record.id, ()):
                self._certain(address.key)
                if (delivery := self._outbox.forget(address.key)) is not None:
                    await self._send(delivery)
                self._by_key.pop(address.key, None)

    def forget(self, record: Record) -> None:
        """Sends nothing more of a request: it is another router's, which begins anew."""
        self._gateways.forget(record)
        for address in self._addresses.pop(record.id, ()):
            self._outbox.forget(address.key)
            self._held_back.pop(address.key, None)
            self._by_key.pop(address.key, None)

    def _addresses_of(self, record: Record) -> list[_Address]:
        if record.id not in self._addresses:
            if record.request.gateway:
                return []
            address = _address_of(record)
            self._addresses[record.id] = [address]
            self._by_key[address.key] = address
        return self._addresses[record.id]

    async def run(self) -> None:
        """Publishes to NATS until cancelled. While the broker is away, tokens are joined in the outbox."""
        while True:
            await self._health.wait_connected()
            sending = await self._outbox.take()
            async with self._publishing:
                for delivery in sending.deliveries:
                    await self._send(delivery)

    async def _send(self, delivery: Deliverable) -> None:
        address = self._by_key.get(delivery.request_id)
        if address is None:
            return  # forgotten since it was taken
        if self._holds_back(address, delivery):
            return
        if delivery.tokens is not None:
            await self._publish(address, delivery.tokens)
        if delivery.finished is not None:
            await self._publish(address, delivery.finished)
            self._by_key.pop(address.key, None)

    def _holds_back(self, address: _Address, delivery: Deliverable) -> bool:
        """Whether a delivery has to wait until it is known whose the request is."""
        key = address.key
        if (earlier := self._held_back.get(key)) is not None:
            self._held_back[key] = _joined(earlier, delivery)
            return True
        if delivery.tokens is None or address.record is None:
            return False
        question = self._leases.question(address.record)
        if question is None:
            return False
        self._held_back[key] = delivery
        question.add_done_callback(lambda _: self._certain(key))
        return True

    def _certain(self, key: str) -> None:
        """It is known whose the request is: what was held back comes first. That of another router's was forgotten."""
        if (delivery := self._held_back.pop(key, None)) is not None:
            later = self._outbox.forget(key)
            self._outbox.put_back(delivery if later is None else _joined(delivery, later))

    async def _publish(self, address: _Address, event: TokenChunk | Outcome) -> None:
        body = encode_token_event(address.request_id, event, as_json=address.as_json)
        if message_size(body, address.headers) > self._connection.max_payload:
            # It would cost the connection. Tokens are that many only where they waited long for a broker.
            await self._publish_parts(address, event)
            return
        try:
            await self._connection.publish(address.subject, body, headers=address.headers)
        except (NatsError, OSError) as error:
            # The consumer sees the gap by the index, and has the durable outcome.
            log.warning("tokens.not_published", request_id=address.request_id, problem=type(error).__name__)

    async def _publish_parts(self, address: _Address, event: TokenChunk | Outcome) -> None:
        """Publishes tokens that are too large for one message as two events, and each of these so in turn."""
        if isinstance(event, Outcome) and event.vectors:
            await self._publish(address, replace(event, vectors=()))  # the durable outcome has them
            return
        if isinstance(event, Outcome) or len(event.token_ids) == 1:
            # Nothing that is made of tokens comes to this. As above: a gap, which the durable outcome fills.
            log.warning(
                "tokens.not_published", request_id=address.request_id, problem="too large for a message"
            )
            return
        middle = event.first_index + len(event.token_ids) // 2
        for part in (event.until(middle), event.since(middle)):
            if part is not None:
                await self._publish(address, part)


def _joined(earlier: Deliverable, later: Deliverable) -> Deliverable:
    if earlier.tokens is None or later.tokens is None:
        tokens = earlier.tokens or later.tokens
    else:
        tokens = earlier.tokens.joined(later.tokens)
    return replace(earlier, tokens=tokens, finished=later.finished)


def _address_of(record: Record) -> _Address:
    return _address(record.id, record.request.reply_to, record.as_json, record.trace, record)


def _address(
    request_id: str, subject: str, as_json: bool, trace: TraceContext, record: Record | None
) -> _Address:
    headers = {HEADER_CONTENT_TYPE: CONTENT_TYPE_JSON if as_json else CONTENT_TYPE_PROTOBUF}
    inject(trace, headers)
    return _Address(request_id, subject, as_json, headers, record)
