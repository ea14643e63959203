"""Tells clients how their place in the queue changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.contract.values import QueuePosition
from headrace.router.gateways import Gateways
from headrace.router.ledger import Ledger, Record

MOST_PER_ROUND = 500
"""Places that are looked at in one round, so that it takes the event loop for some milliseconds at most; the others
have their turn in the next."""
MATERIAL = 0.2
"""The share by which a wait has to change to be told anew."""


class Positions:
    """Looks at the requests that wait, one round after another. What it told last is with the records."""

    def __init__(
        self,
        ledger: Ledger,
        gateways: Gateways,
        *,
        place: Callable[[Record], QueuePosition],
        every_s: float,
    ) -> None:
        self._ledger = ledger
        self._gateways = gateways
        self._place = place
        self._every_s = every_s
        self._after = ""
        """The request at which the last round ended."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            self.look()

    def look(self) -> None:
        """One round."""
        waiting = [record for record in self._ledger if record.followers and record.place is not None]
        if len(waiting) > MOST_PER_ROUND:
            waiting.sort(key=lambda record: (record.id <= self._after, record.id))
            waiting = waiting[:MOST_PER_ROUND]
            self._after = waiting[-1].id
        for record in waiting:
            assert record.place is not None
            place = self._place(record)
            if materially_other(record.place, place):
                record.place = place
                self._gateways.queued(record, place)


def materially_other(told: QueuePosition, now: QueuePosition) -> bool:
    """Whether a client would want to know."""
    if (told.ahead == 0) != (now.ahead == 0) or abs(told.ahead - now.ahead) > MATERIAL * told.ahead:
        return True
    before_s, after_s = told.estimated_wait_s, now.estimated_wait_s
    if before_s is None or after_s is None:
        return before_s is not after_s
    return abs(before_s - after_s) > max(MATERIAL * before_s, 0.1)
