"""The broker's wait for an acknowledgement, extended for everything that is held.

A router that dies stops extending, and within `router.ack_wait_s` the broker gives its requests to another.
"""

from __future__ import annotations

import asyncio

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from headrace.router.ledger import Hold, Ledger

log = structlog.get_logger(__name__)

PARTS = 3
"""Extensions per wait: one that is lost, and one that is late, do no harm."""


async def extend_leases(connection: Client, ledger: Ledger, ack_wait_s: float) -> None:
    """Says of every held request that it is being worked on, until cancelled."""
    while True:
        await asyncio.sleep(ack_wait_s / PARTS)
        if not connection.is_connected:
            continue  # what is said now would be sent too late; after a reconnection the broker may deliver again
        try:
            for record in ledger:
                if record.hold is not Hold.RELEASED:
                    await record.message.in_progress()
        except (NatsError, OSError) as error:
            log.warning("leases.not_extended", problem=type(error).__name__)
