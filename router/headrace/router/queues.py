"""The broker's queues: notices them, pulls as many messages as the core asks for, and tells it of pulls that lapsed.

One pull request per order stays open at the broker until its messages came or it expires, so a message that is
published meanwhile arrives at once. New queues announce themselves on `hr.v1.seen.>`, which the broker publishes for
every message it stores, headers only; a look at the stream every few seconds finds what an announcement missed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from headrace.contract.errors import InvalidRequest, Unavailable
from headrace.contract.subjects import (
    REQUESTS_STREAM,
    SEEN_WILDCARD,
    consumer_name,
    parse_queue,
    subject_of_seen,
)
from headrace.router.core.events import PullLapsed, QueueGone, QueueSeen
from headrace.runtime.nats_queues import ensure_queue_consumer, list_queues

log = structlog.get_logger(__name__)

PULL_EXPIRES_S = 30.0
"""How long the broker keeps a pull open: long enough to cost nothing, short enough to end before a lost one hurts."""
LOOK_EVERY_S = 5.0
"""How often the stream is asked for its queues, for what announcements missed while the connection was away."""
RETRY_AFTER_S = 1.0
"""The wait after a pull that the broker refused, so that a missing stream makes no busy loop."""

STOP_WAIT_S = 1.0
"""How long the broker gets to confirm that the pulls are ended: as long as it may take to answer anything."""


@dataclass(slots=True)
class _Known:
    """A queue that was seen. Written by Queues alone."""

    subject: str
    backlog: int = 0
    """Messages in the broker that no router has, as last heard."""
    coming: int = 0
    """Pulled and not arrived."""
    last_heard_s: float = 0.0
    has_consumer: bool = False


class Queues:
    """The queues of the stream, and the pulls that are open on them.

    Bounded: at most `max_queues` are known; when it is reached, idle ones are forgotten, and if none is idle, further
    ones wait in the broker until one is, and a warning says so.
    """

    def __init__(
        self,
        connection: Client,
        *,
        ack_wait_s: float,
        consumer_idle_s: float,
        max_queues: int,
        tell: Callable[[QueueSeen | QueueGone | PullLapsed], None],
        receive: Callable[[Msg], None],
    ) -> None:
        self._connection = connection
        self._js: JetStreamContext = connection.jetstream()
        self._ack_wait_s = ack_wait_s
        self._consumer_idle_s = consumer_idle_s
        self._max_queues = max_queues
        self._tell = tell
        self._receive = receive
        self._known: dict[str, _Known] = {}
        self._ordered: dict[str, int] = {}
        self._order = asyncio.Event()
        self._numbers = count()
        self._open: dict[str, tuple[_Known, float]] = {}
        """By inbox: the queue, and when the broker ends the pull. In that order, so the oldest stands first."""
        self._inbox = connection.new_inbox()
        self._arrivals: Subscription | None = None
        self._full = False

    def backlog(self, subject: str) -> int:
        """Messages of a queue that wait in the broker, as last heard."""
        known = self._known.get(subject)
        return 0 if known is None else known.backlog

    def subjects(self) -> list[str]:
        return list(self._known)

    def pull(self, subject: str, amount: int) -> None:
        """Asks for `amount` more messages of a queue that was seen."""
        self._ordered[subject] = self._ordered.get(subject, 0) + amount
        self._order.set()

    def reconnected(self) -> None:
        """The broker forgot every open pull: each has lapsed."""
        for known in self._known.values():
            self._lapse(known, known.coming)
        self._open.clear()

    async def run(self) -> None:
        """Pulls until cancelled."""
        inbox = self._arrivals = await self._connection.subscribe(f"{self._inbox}.>", cb=self._on_message)
        seen = await self._connection.subscribe(SEEN_WILDCARD, cb=self._on_seen)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look(), name="queues: look")
                tasks.create_task(self._send_pulls(), name="queues: pull")
        finally:
            with suppress(NatsError, OSError):  # a connection that is gone has no subscriptions
                await seen.unsubscribe()
                await inbox.unsubscribe()

    async def stop(self) -> None:
        """Ends all open pulls; what the broker had sent by then has arrived when this returns. Else what a router that
        leaves gives back would come straight back to it.
        """
        if self._arrivals is not None:
            with suppress(NatsError, TimeoutError, OSError):  # then the connection ends them
                async with asyncio.timeout(STOP_WAIT_S):
                    await self._arrivals.drain()  # type: ignore[no-untyped-call]

    async def _on_seen(self, message: Msg) -> None:
        known = self._see(subject_of_seen(message.subject))
        if known is not None:
            known.backlog += 1

    async def _look(self) -> None:
        while True:
            try:
                held = await list_queues(self._js)
            except Unavailable as error:
                log.warning("queues.not_listed", problem=str(error))
            else:
                if len(self._known) >= self._max_queues:
                    self._forget_idle(held)
                for subject, messages in held.items():
                    new = subject not in self._known
                    if (known := self._see(subject)) is not None and new:
                        known.backlog = messages
            self._lapse_silent()
            await asyncio.sleep(LOOK_EVERY_S)

    def _see(self, subject: str) -> _Known | None:
        known = self._known.get(subject)
        if known is not None:
            return known
        if len(self._known) >= self._max_queues:
            if not self._full:
                log.warning("queues.too_many", known=len(self._known), setting="router.max_queues")
            self._full = True
            return None
        known = self._known[subject] = _Known(subject)
        try:
            model = parse_queue(subject).model
        except InvalidRequest:
            model = None
        self._tell(QueueSeen(queue=subject, model=model))
        return known

    def _forget_idle(self, held: dict[str, int]) -> None:
        for subject in [s for s in self._known if s not in held]:
            del self._known[subject]
            self._tell(QueueGone(queue=subject))
        self._full = False

    async def _send_pulls(self) -> None:
        while True:
            await self._order.wait()
            self._order.clear()
            ordered, self._ordered = self._ordered, {}
            for subject, amount in ordered.items():
                if (known := self._known.get(subject)) is not None:
                    await self._send_pull(known, amount)

    async def _send_pull(self, known: _Known, amount: int) -> None:
        known.coming += amount
        now = known.last_heard_s = asyncio.get_running_loop().time()
        inbox = f"{self._inbox}.{next(self._numbers)}"
        self._open[inbox] = (known, now + PULL_EXPIRES_S)
        body = json.dumps({"batch": amount, "expires": int(PULL_EXPIRES_S * 1e9)}).encode()
        target = f"$JS.API.CONSUMER.MSG.NEXT.{REQUESTS_STREAM}.{consumer_name(known.subject)}"
        try:
            if not known.has_consumer:
                await ensure_queue_consumer(
                    self._js, known.subject, ack_wait_s=self._ack_wait_s, idle_s=self._consumer_idle_s
                )
                known.has_consumer = True
            await self._connection.publish(target, body, reply=inbox)
        except (Unavailable, NatsError, OSError) as error:
            log.warning("queues.pull_failed", queue=known.subject, problem=type(error).__name__)
            self._refused(inbox, known, amount)

    async def _on_message(self, message: Msg) -> None:
        if message.reply:
            self._arrived(message)
            return
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status == "100":
            return
        if message.subject not in self._open:
            return
        known, _ = self._open[message.subject]
        left = int(headers.get("Nats-Pending-Messages", known.coming))
        if status == "408":
            del self._open[message.subject]
            self._lapse(known, left)
        else:
            # No such consumer or stream, a leader that changed, …: make it anew, a little later.
            log.info("queues.pull_refused", queue=known.subject, status=status)
            self._refused(message.subject, known, left)

    def _arrived(self, message: Msg) -> None:
        known = self._see(message.subject)
        if known is not None:
            known.coming = max(0, known.coming - 1)
            known.last_heard_s = asyncio.get_running_loop().time()
            known.backlog = message.metadata.num_pending
        self._receive(message)

    def _refused(self, inbox: str, known: _Known, amount: int) -> None:
        self._open.pop(inbox, None)
        known.has_consumer = False
        asyncio.get_running_loop().call_later(RETRY_AFTER_S, self._lapse, known, amount)

    def _lapse(self, known: _Known, amount: int) -> None:
        amount = min(amount, known.coming)
        known.coming -= amount
        if amount:
            self._tell(PullLapsed(queue=known.subject, count=amount))

    def _lapse_silent(self) -> None:
        """Pulls that should have expired and were never heard of again."""
        overdue = asyncio.get_running_loop().time() - LOOK_EVERY_S
        for known in self._known.values():
            if known.coming and known.last_heard_s + PULL_EXPIRES_S < overdue:
                self._lapse(known, known.coming)
        for inbox, (_, ends_s) in list(self._open.items()):
            if ends_s >= overdue:
                break
            del self._open[inbox]  # answered in full, or never
