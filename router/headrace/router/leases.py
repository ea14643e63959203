"""The broker's wait for an acknowledgement, extended for everything that is held.

A router that dies stops extending, and within `router.ack_wait_s` the broker gives its requests to another. A router
that only stood still, or lost its connection for a while, has been taken for dead as well: it has to ask whether its
requests are still its own before it ends them or gives them back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from headrace.contract.claims import HandOver, Running
from headrace.router.ledger import Hold, Ledger, Record
from headrace.router.ownership import Ownership
from headrace.runtime.nats_flush import flushed
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

PARTS = 3
"""Extensions per wait: one that is lost, and one that is late, do no harm."""
QUESTIONS = 1_000
"""Questions that are open at once after a lapse, each for `router.claim_wait_s`: they are as cheap as messages are."""


class Leases:
    """Extends the leases of what is held, and finds out whose it is where a lease may have lapsed.

    A lease has lapsed where the broker has heard nothing of the request for `ack_wait_s`, by the clock of this router.
    """

    def __init__(
        self,
        connection: Client,
        *,
        ledger: Ledger,
        ownership: Ownership,
        health: NatsHealth,
        ack_wait_s: float,
        taken: Callable[[Record], None],
    ) -> None:
        """`taken` is called where another router has a request that is held here."""
        self._connection = connection
        self._ledger = ledger
        self._ownership = ownership
        self._health = health
        self._ack_wait_s = ack_wait_s
        self._taken = taken
        self._asking = asyncio.Semaphore(QUESTIONS)
        self.since_s = time.monotonic()
        """What is read now was given after this, by `time.monotonic`: the broker answered a word of that time, and what
        it had said before was read before. When a message is read says less: this router may have stood still.
        """

    async def run(self) -> None:
        """Says of every held request that it is being worked on, until cancelled."""
        while True:
            await asyncio.sleep(self._ack_wait_s / PARTS)
            if not self._health.connected:
                continue  # what is said now would be sent too late
            try:
                await self._extend()
            except (NatsError, OSError) as error:
                log.warning("leases.not_extended", problem=type(error).__name__)

    async def _extend(self) -> None:
        said_s = time.monotonic()
        said = []
        for record in self._ledger:
            if record.hold not in (Hold.CLAIMING, Hold.OWNED):
                continue
            if self.question(record) is not None:
                continue
            await record.message.in_progress()
            said.append(record)
        # What stands still may do so with all this unsent: it counts once the broker is known to have read it.
        async with asyncio.timeout(self._ack_wait_s / PARTS):  # the next words must not wait for these
            await flushed(self._connection)
        self.since_s = said_s
        for record in said:
            record.leased_s = max(record.leased_s, said_s)

    def _lapsed(self, record: Record) -> bool:
        # Not the loop's clock, which stands still in each of its turns: what a router that was stopped in one still
        # reads in it would be of the time before.
        return time.monotonic() - record.leased_s > self._ack_wait_s

    async def is_ours(self, record: Record) -> bool:
        """Whether a held request is still this router's: asks the others where its lease has lapsed, and waits for the
        connection to do so. Where it is not, `taken` has been called.
        """
        while (question := self.question(record)) is not None:
            await asyncio.shield(question)
        return record.hold is Hold.OWNED

    def question(self, record: Record) -> asyncio.Future[None] | None:
        """Done when it is known whose a held request is; None where that is known. One question for all who ask."""
        if record.hold is not Hold.OWNED or not self._lapsed(record):
            return None
        if record.doubt is None:
            record.doubt = asyncio.create_task(self._ask(record), name=f"whose is {record.id}")
        return record.doubt

    async def _ask(self, record: Record) -> None:
        try:
            await self._health.wait_connected()
            async with self._asking:
                # Others may have come while this router could hear of nobody.
                answer = await self._ownership.ask_everybody(record)
            if record.hold is not Hold.OWNED:
                return
            match answer:
                case Running(sequence=record.sequence):
                    log.warning("request.lost", request_id=record.id)
                    self._taken(record)
                case HandOver() as handed:
                    # It was taken, and given back: the next to get it asks us for that.
                    self._ownership.keep(record, handed)
                    self._taken(record)
                case _:  # nobody has it, or only another message with its id
                    await record.message.in_progress()
                    record.leased_s = time.monotonic()
        except (NatsError, OSError) as error:
            log.info("lease.not_extended", request_id=record.id, problem=type(error).__name__)
            await asyncio.sleep(self._ack_wait_s / PARTS)  # it is asked again
        finally:
            record.doubt = None
