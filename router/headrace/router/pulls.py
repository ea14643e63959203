"""The pulls at the broker: one open per queue, renewed for as long as the core wants more.

A pull stays open until its messages came or it expires, so a message that is published meanwhile arrives at once. What
the core asks for while one is open goes into the next. The broker tells when a pull ends without messages, except where
the server that led the queue's consumer is gone: a pull that is silent after its time is sent again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from headrace.contract.errors import Unavailable
from headrace.contract.subjects import REQUESTS_STREAM, consumer_name
from headrace.runtime.backoff import Backoff
from headrace.runtime.nats_queues import StreamMissing, ensure_queue_consumer
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

EXPIRES_S = 5.0
"""How long the broker keeps a pull open: long enough to cost little, and short, as it is how late a lost pull is missed
and a forgotten queue let go."""
SILENT_S = EXPIRES_S + 1.0
"""When a pull whose end nobody told is missed: the broker's word may be late."""
RETRY_S = (0.1, 2.0)
"""The first and the longest wait after a pull that was refused, per queue: an election takes seconds, and a consumer
that was deleted is made anew at once."""
PREPARE_S = 2.0
"""How long the broker may take to declare a consumer. It takes milliseconds; while it elects a leader nobody hears."""
PREPARED_AT_ONCE = 8
"""Consumers that are declared side by side: with hundreds of queues at a start, a slow one holds up few."""

STOP_WAIT_S = 1.0
"""How long the broker gets to confirm that the pulls are ended: as long as it may take to answer anything."""


@dataclass(slots=True)
class _Open:
    """A pull that is open at the broker."""

    inbox: str
    left: int
    """Messages that it may still bring."""
    silent: asyncio.TimerHandle


@dataclass(slots=True)
class _Asked:
    """What is asked of one queue. Written by Pulls alone."""

    subject: str
    ordered: int = 0
    """Wanted by the core, and in no pull yet."""
    open: _Open | None = None
    prepared: bool = False
    """Whether its consumer is there, as far as is known."""
    busy: bool = False
    """Whether its consumer is being declared, or a refusal waited out: nothing is sent meanwhile."""
    leaving: bool = False
    """Whether it is let go as soon as no pull of it is open."""
    backoff: Backoff = field(default_factory=lambda: Backoff(*RETRY_S))
    problem: str = ""
    """Of the last refusal, since a pull went well."""

    def went_well(self) -> None:
        self.backoff.reset()
        self.problem = ""


class Pulls:
    """Bounded by the queues that are ordered from: one pull and one number each."""

    def __init__(
        self,
        connection: Client,
        *,
        health: NatsHealth,
        ack_wait_s: float,
        consumer_idle_s: float,
        receive: Callable[[Msg], None],
        lapsed: Callable[[str, int], None],
        gone: Callable[[str], None],
        missed: Callable[[], None],
    ) -> None:
        """`receive` takes each message; `lapsed(queue, count)` hears that so many ordered ones are not coming, `gone`
        that a queue was let go, `missed` that the stream is not there.
        """
        self._connection = connection
        self._js = connection.jetstream(timeout=PREPARE_S)
        self._health = health
        self._ack_wait_s = ack_wait_s
        self._consumer_idle_s = consumer_idle_s
        self._receive = receive
        self._lapsed = lapsed
        self._gone = gone
        self._missed = missed
        self._asked: dict[str, _Asked] = {}
        self._by_inbox: dict[str, _Asked] = {}
        self._ready: dict[str, None] = {}
        """Queues that a pull can be sent for; a dict, for its order."""
        self._wake = asyncio.Event()
        self._inbox = connection.new_inbox()
        self._arrivals: Subscription | None = None
        self._numbers = count()
        self._preparing = asyncio.Semaphore(PREPARED_AT_ONCE)

    def __repr__(self) -> str:
        return f"<Pulls open={len(self._by_inbox)} of {len(self._asked)} queues>"

    def order(self, subject: str, amount: int) -> None:
        """Asks for `amount` more messages of a queue."""
        asked = self._asked.setdefault(subject, _Asked(subject))
        asked.ordered += amount
        self._send_soon(asked)

    def let_go(self, subject: str) -> None:
        """The queue is not wanted any more: `gone` is told, when its open pull has ended."""
        asked = self._asked.get(subject)
        if asked is None or (asked.open is None and not asked.busy):
            self._drop(subject)
        else:
            asked.leaving = True

    def keep(self, subject: str) -> None:
        """The queue is wanted after all."""
        if (asked := self._asked.get(subject)) is not None:
            asked.leaving = False

    def renew(self) -> None:
        """On a new connection the broker knows of no open pull: each has lapsed."""
        for asked in list(self._by_inbox.values()):
            self._lapse(asked)

    async def stop(self) -> None:
        """Ends all open pulls; what the broker had sent by then has arrived when this returns."""
        if self._arrivals is not None:
            with suppress(NatsError, TimeoutError, OSError):  # then the connection ends them
                async with asyncio.timeout(STOP_WAIT_S):
                    await self._arrivals.drain()  # type: ignore[no-untyped-call]

    async def run(self) -> None:
        """Sends pulls until cancelled."""
        inbox = self._arrivals = await self._connection.subscribe(f"{self._inbox}.>", cb=self._on_message)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._wake.wait()
                    await self._health.wait_connected()  # a pull that waits here would be open twice
                    self._wake.clear()
                    ready, self._ready = self._ready, {}
                    for asked in [self._asked[subject] for subject in ready if subject in self._asked]:
                        if asked.prepared:
                            await self._send(asked)
                        else:
                            asked.busy = True
                            tasks.create_task(self._prepare(asked), name=f"prepare {asked.subject}")
        finally:
            with suppress(NatsError, OSError):  # a connection that is gone has no subscriptions
                await inbox.unsubscribe()

    def _send_soon(self, asked: _Asked) -> None:
        if asked.ordered and asked.open is None and not asked.busy:
            self._ready[asked.subject] = None
            self._wake.set()

    async def _prepare(self, asked: _Asked) -> None:
        problem = ""
        async with self._preparing:
            try:
                await ensure_queue_consumer(
                    self._js, asked.subject, ack_wait_s=self._ack_wait_s, idle_s=self._consumer_idle_s
                )
            except Unavailable as error:
                problem = error.problem
                if isinstance(error, StreamMissing):
                    self._missed()
        asked.busy = False
        if problem:
            self._refused(asked, problem)
        else:
            asked.prepared = True
            self._send_soon(asked)

    async def _send(self, asked: _Asked) -> None:
        amount, asked.ordered = asked.ordered, 0
        inbox = f"{self._inbox}.{next(self._numbers)}"
        silent = asyncio.get_running_loop().call_later(SILENT_S, self._on_silence, inbox)
        asked.open = _Open(inbox, amount, silent)
        self._by_inbox[inbox] = asked
        body = json.dumps({"batch": amount, "expires": int(EXPIRES_S * 1e9)}).encode()
        target = f"$JS.API.CONSUMER.MSG.NEXT.{REQUESTS_STREAM}.{consumer_name(asked.subject)}"
        try:
            await self._connection.publish(target, body, reply=inbox)
        except (NatsError, OSError) as error:
            self._refused(asked, type(error).__name__)

    async def _on_message(self, message: Msg) -> None:
        if message.reply:
            self._count(message.subject)
            self._receive(message)
        elif (asked := self._by_inbox.get(message.subject)) is not None:
            headers = message.headers or {}
            status = headers.get("Status", "")
            if status == "408":  # it has expired
                self._lapse(asked)
            else:  # no such consumer or stream, a leader that changed, …
                said = headers.get("Description", "").strip().splitlines()
                self._refused(asked, " ".join([status, *said[:1]]))

    def _count(self, subject: str) -> None:
        asked = self._asked.get(subject)
        if asked is None:
            return
        asked.leaving = False
        if asked.open is None:
            return  # of a pull that was given up
        asked.open.left -= 1
        if not asked.open.left:
            self._close(asked)
            asked.went_well()
            self._send_soon(asked)

    def _on_silence(self, inbox: str) -> None:
        """Whoever leads the consumer now does not know of the pull; if nobody does, the next one is refused."""
        if (asked := self._by_inbox.get(inbox)) is not None:
            log.info("queues.pull_lost", queue=asked.subject)
            self._lapse(asked)

    def _refused(self, asked: _Asked, problem: str) -> None:
        """Has the consumer declared anew, a little later: a missing stream must make no busy loop."""
        asked.ordered += self._close(asked)
        asked.prepared = False
        asked.busy = True
        if problem != asked.problem:  # said once, however often it is tried
            log.info("queues.pull_refused", queue=asked.subject, problem=problem)
        asked.problem = problem
        asyncio.get_running_loop().call_later(asked.backoff.next_s(), self._rested, asked)

    def _rested(self, asked: _Asked) -> None:
        asked.busy = False
        self._told(asked)

    def _lapse(self, asked: _Asked) -> None:
        asked.ordered += self._close(asked)
        asked.went_well()
        self._told(asked)

    def _told(self, asked: _Asked) -> None:
        """Has the core decide anew what it wants of a queue that no pull is open on."""
        if asked.leaving:
            self._drop(asked.subject)
        elif asked.ordered:
            amount, asked.ordered = asked.ordered, 0
            self._lapsed(asked.subject, amount)

    def _close(self, asked: _Asked) -> int:
        """The open pull is over; what it did not bring."""
        pull, asked.open = asked.open, None
        if pull is None:
            return 0
        pull.silent.cancel()
        del self._by_inbox[pull.inbox]
        return pull.left

    def _drop(self, subject: str) -> None:
        self._asked.pop(subject, None)
        self._ready.pop(subject, None)
        self._gone(subject)
