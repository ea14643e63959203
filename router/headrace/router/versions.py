"""What this router knows of versions and aliases, for the choice of who answers a request."""

from __future__ import annotations

import asyncio
import time
from math import inf

from headrace.contract.deliver import waits_s
from headrace.contract.requests import Request
from headrace.router.aliases import Aliases
from headrace.router.conductor import Conductor
from headrace.router.ledger import Record
from headrace.router.models import RouterModels
from headrace.router.peers import Peers
from headrace.router.resolving import Resolved, resolve

LOOK_S = 0.05
"""Between looks for a version that is waited for. Workers come here and at other routers, and few requests wait so."""


class Versions:
    """Holds nothing: asks those who know."""

    def __init__(
        self,
        *,
        models: RouterModels,
        aliases: Aliases,
        conductor: Conductor,
        peers: Peers,
        first_token_s: tuple[float, ...],
        fallback_wait_s: float,
        version_wait_s: float,
    ) -> None:
        """Objectives by Priority, inf where there is none; see `resolving`. `version_wait_s` is how long a request that
        has begun waits for its version, where another one could go on with it.
        """
        self._models = models
        self._aliases = aliases
        self._conductor = conductor
        self._peers = peers
        self._first_token_s = first_token_s
        self._fallback_wait_s = fallback_wait_s
        self._version_wait_s = version_wait_s

    async def resolve(self, record: Record) -> Resolved:
        """Which version answers a request. Its own may be on its way here: after the loss of a router its workers come
        one by one.
        """
        until_s = time.monotonic() + self._version_wait_s
        while (found := self._resolve(record)).left and time.monotonic() < until_s:  # noqa: ASYNC110 — see LOOK_S
            await asyncio.sleep(LOOK_S)
        return found

    def _resolve(self, record: Record) -> Resolved:
        request = record.request
        if record.shadow_of is not None:
            return Resolved(model=record.shadow_of.model)
        began_at = (record.model or request.model) if record.tokens else ""
        age_s = time.time() - record.accepted_s
        return resolve(
            request,
            self._aliases.get(request.model),
            self,
            began_at=began_at,
            patience_s=lambda _: self._patience_s(request, age_s),
        )

    def _patience_s(self, request: Request, age_s: float) -> float:
        left_s = inf if request.deadline_s is None else request.deadline_s - time.time()
        return min(self._fallback_wait_s, left_s, self._first_token_s[request.priority] - age_s)

    def knows(self, reference: str) -> bool:
        return reference in self._models.names()

    def serves(self, reference: str) -> bool:
        return reference in self._conductor.served() or reference in self._peers.models()

    def wait_s(self, reference: str, request: Request) -> float:
        load = self._conductor.load(reference)
        if not load.lanes:
            return 0.0  # another router's lanes: it says what it thinks of it
        return waits_s(load.waiting, request.priority, load.free_lanes, load.seconds_per_request) or 0.0

    def words(self, reference: str) -> str:
        return self._models.words(reference)
