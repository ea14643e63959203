"""What may go in: every check that needs no broker, so that a refusal costs nobody else anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from headrace.contract.errors import InvalidRequest, Unavailable
from headrace.contract.ids import new_request_id
from headrace.contract.requests import Limits, Request, check_request
from headrace.gateway.catalogue import Catalogue

LAST_SECOND = 253_402_300_799
"""Of the year 9999, where protobuf's timestamps end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A request that may be published. `chosen` says that its id is the client's: only such an id can be in use."""

    request: Request
    chosen: bool


class Admission:
    """Checks requests. Raises an error of the tree for each that may not go in."""

    def __init__(
        self,
        limits: Limits,
        catalogue: Catalogue,
        *,
        router_wait_s: float,
        draining: Callable[[], bool],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` gives Unix time. `draining` says whether this gateway takes no more."""
        self._limits = limits
        self._catalogue = catalogue
        self._router_wait_s = router_wait_s
        self._draining = draining
        self._now = now

    async def admit(self, decoded: Request, remaining_s: float | None) -> Admitted:
        """The request that a client sent, with an id and with the earlier of its deadline and the call's.

        `remaining_s` is what is left of the call's deadline; None = it has none. Waits a little for a first router.
        """
        if self._draining():
            raise Unavailable("gateway", "it is stopping and takes no new requests; call another")
        now_s = self._now()
        request = replace(
            decoded, id=decoded.id or new_request_id(), deadline_s=_earlier(decoded, remaining_s, now_s)
        )
        check_request(request, self._limits, now_s)
        await self._catalogue.wait_connected(self._router_wait_s)
        self._catalogue.require(request.model, request.task)
        return Admitted(request=request, chosen=bool(decoded.id))


def _earlier(request: Request, remaining_s: float | None, now_s: float) -> float | None:
    deadline_s = request.deadline_s
    if deadline_s is not None and not 0 <= deadline_s <= LAST_SECOND:
        raise InvalidRequest("deadline", "must lie between the years 1970 and 9999")
    if remaining_s is None or now_s + remaining_s > LAST_SECOND:
        return deadline_s
    called_s = now_s + remaining_s
    return called_s if deadline_s is None else min(called_s, deadline_s)
