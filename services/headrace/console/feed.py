"""What the console hears on NATS: the routers' states, the gateways, and how full the broker's streams are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from headrace.console.picture import BrokerFigures, Picture
from headrace.contract.admin import MemberKind
from headrace.contract.admin_wire import decode_status
from headrace.contract.errors import MalformedMessage
from headrace.contract.state_wire import decode_state
from headrace.contract.subjects import (
    ADMIN_STATUS,
    DEAD_STREAM,
    REQUESTS_STREAM,
    RESULTS_STREAM,
    STATE_ASK,
    STATE_WILDCARD,
    is_name,
    state_subject,
)
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

ASK_EVERY_S = 1.0
"""Routers show themselves for some seconds after an ask; one that starts is seen within this time."""
LOOK_EVERY_S = 2.0
"""Between looks at gateways and streams: what they say changes slowly."""
ANSWER_S = 1.0
"""How long the broker may take to say how full a stream is."""
PENDING_STATES = 256
"""States that wait to be read: of more routers than that, some are missed, and come a moment later."""
PENDING_BYTES = 64 * 1024 * 1024


class Feed:
    """Asks, hears, and tells the picture. Of what cannot be read it is told nothing."""

    def __init__(self, nc: Client, picture: Picture, health: NatsHealth) -> None:
        self._nc = nc
        self._picture = picture
        self._health = health

    async def run(self) -> None:
        """Until cancelled."""
        inbox = self._nc.new_inbox()
        for subject, hear in ((STATE_WILDCARD, self._on_state), (inbox, self._on_status)):
            await self._nc.subscribe(
                subject, cb=hear, pending_msgs_limit=PENDING_STATES, pending_bytes_limit=PENDING_BYTES
            )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(ASK_EVERY_S, self._ask), name="feed: ask")
            tasks.create_task(self._every(LOOK_EVERY_S, lambda: self._look(inbox)), name="feed: look")
            tasks.create_task(self._watch(), name="feed: link")

    async def _every(self, wait_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._health.wait_connected()
            try:
                await work()
            except (NatsError, JetStreamError, TimeoutError, OSError) as error:
                log.debug("feed.not_asked", problem=type(error).__name__)
            await asyncio.sleep(wait_s)

    async def _watch(self) -> None:
        async for _ in self._health.changes():
            self._picture.broker_is(connected=self._health.connected)

    async def _ask(self) -> None:
        await self._nc.publish(STATE_ASK)

    async def _look(self, inbox: str) -> None:
        await self._nc.publish(ADMIN_STATUS, reply=inbox)
        js = self._nc.jetstream(timeout=ANSWER_S)
        requests, results, dead = [
            (await js.stream_info(name)).state for name in (REQUESTS_STREAM, RESULTS_STREAM, DEAD_STREAM)
        ]
        self._picture.broker_holds(
            BrokerFigures(
                requests=requests.messages,
                request_bytes=requests.bytes,
                results=results.messages,
                dead=dead.messages,
                last_dead=dead.last_seq,
            )
        )

    async def _on_state(self, message: Msg) -> None:
        try:
            state = decode_state(message.data)
        except MalformedMessage as error:
            log.warning("feed.state_malformed", problem=str(error))
            return
        if message.subject == state_subject(state.router) and is_name(state.router):
            self._picture.router_is(state)

    async def _on_status(self, message: Msg) -> None:
        try:
            members = decode_status(message.data)
        except MalformedMessage as error:
            log.warning("feed.status_malformed", problem=str(error))
            return
        for member in members:
            if member.kind is MemberKind.GATEWAY:
                self._picture.gateway_is(member)
