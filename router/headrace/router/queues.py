"""The broker's queues: notices them, has them pulled as the core asks, and tells it of pulls that lapsed.

New queues announce themselves on `hr.v1.seen.>`, which the broker publishes for every message it stores, headers only;
a look at the stream every few seconds, and after each interruption, finds what an announcement missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from headrace.contract.errors import Unavailable
from headrace.contract.subjects import SEEN_WILDCARD, is_queue, parse_queue, subject_of_seen
from headrace.router.core.events import PullLapsed, QueueGone, QueueSeen
from headrace.router.pulls import Pulls
from headrace.router.strays import Strays
from headrace.runtime.nats_queues import StreamMissing, list_queues
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
"""How often the stream is asked for its queues, for what announcements missed."""


class Queues:
    """The queues of the stream, and the pulls that are open on them.

    Bounded: at most `max_queues` are known; when it is reached, idle ones are forgotten, and if none is idle, further
    ones wait in the broker until one is, and a warning says so.
    """

    def __init__(
        self,
        connection: Client,
        *,
        health: NatsHealth,
        ack_wait_s: float,
        consumer_idle_s: float,
        max_queues: int,
        tell: Callable[[QueueSeen | QueueGone | PullLapsed], None],
        receive: Callable[[Msg], None],
        missed: Callable[[], None],
        strays: Strays,
    ) -> None:
        """`missed` is called where the stream is not there."""
        self._connection = connection
        self._js: JetStreamContext = connection.jetstream()
        self._health = health
        self._max_queues = max_queues
        self._tell = tell
        self._receive = receive
        self._missed = missed
        self._strays = strays
        self._backlogs: dict[str, int] = {}
        """By queue: messages in the broker that no router has, as last heard."""
        self._announced: dict[str, int] = {}
        """By queue: messages since they were last counted."""
        self._full = False
        self._look_now = asyncio.Event()
        self._pulls = Pulls(
            connection,
            health=health,
            ack_wait_s=ack_wait_s,
            consumer_idle_s=consumer_idle_s,
            receive=self._arrived,
            lapsed=lambda subject, amount: tell(PullLapsed(queue=subject, count=amount)),
            gone=self._forget,
            missed=missed,
        )

    def backlog(self, subject: str) -> int:
        """Messages of a queue that wait in the broker, as last heard."""
        return self._backlogs.get(subject, 0)

    def backlogs(self) -> Mapping[str, int]:
        """The same of every queue, by subject."""
        return self._backlogs

    def subjects(self) -> list[str]:
        return list(self._backlogs)

    def take_announced(self) -> dict[str, int]:
        """By queue, how many messages were queued since this was last asked; whoever pulls them."""
        announced, self._announced = self._announced, {}
        return announced

    def pull(self, subject: str, amount: int) -> None:
        """Asks for `amount` more messages of a queue that was seen."""
        if subject in self._backlogs:
            self._pulls.order(subject, amount)

    def reconnected(self) -> None:
        """The broker forgot every open pull, and may have announced queues that nobody heard of."""
        self._pulls.renew()
        self._look_now.set()

    async def run(self) -> None:
        """Pulls until cancelled."""
        seen = await self._connection.subscribe(SEEN_WILDCARD, cb=self._on_seen)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look(), name="queues: look")
                tasks.create_task(self._pulls.run(), name="queues: pull")
                tasks.create_task(self._strays.run(), name="queues: strays")
        finally:
            with suppress(NatsError, OSError):  # a connection that is gone has no subscriptions
                await seen.unsubscribe()

    async def stop(self) -> None:
        """Ends all open pulls; what the broker had sent by then has arrived when this returns. Else what a router that
        leaves gives back would come straight back to it.
        """
        await self._pulls.stop()

    async def _on_seen(self, message: Msg) -> None:
        subject = subject_of_seen(message.subject)
        if not is_queue(subject):
            self._strays.announced(message.headers)
        elif self._see(subject):
            self._backlogs[subject] += 1
            self._announced[subject] = self._announced.get(subject, 0) + 1

    async def _look(self) -> None:
        while True:
            await self._health.wait_connected()
            self._look_now.clear()
            try:
                held = await list_queues(self._js)
            except Unavailable as error:
                log.warning("queues.not_listed", problem=error.problem)
                if isinstance(error, StreamMissing):
                    self._missed()
            else:
                self._strays.listed([subject for subject in held if not is_queue(subject)])
                self._compare({subject: count for subject, count in held.items() if is_queue(subject)})
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._look_now.wait()

    def _compare(self, held: dict[str, int]) -> None:
        """`held` counts what runs, too."""
        for subject, backlog in self._backlogs.items():
            self._backlogs[subject] = min(backlog, held.get(subject, 0))
        if len(self._backlogs) >= self._max_queues:
            for subject in [s for s in self._backlogs if s not in held]:
                self._pulls.let_go(subject)
        else:
            self._full = False
        for subject, messages in held.items():
            new = subject not in self._backlogs
            if self._see(subject) and new:
                self._backlogs[subject] = messages

    def _see(self, subject: str) -> bool:
        """Whether the queue is known now."""
        if subject in self._backlogs:
            self._pulls.keep(subject)
            return True
        if len(self._backlogs) >= self._max_queues:
            if not self._full:
                log.warning("queues.too_many", known=len(self._backlogs), setting="router.max_queues")
            self._full = True
            return False
        self._backlogs[subject] = 0
        self._tell(QueueSeen(queue=subject, model=parse_queue(subject).model))
        return True

    def _forget(self, subject: str) -> None:
        if self._backlogs.pop(subject, None) is not None:
            self._tell(QueueGone(queue=subject))

    def _arrived(self, message: Msg) -> None:
        if self._see(message.subject):
            self._backlogs[message.subject] = message.metadata.num_pending
        self._receive(message)
