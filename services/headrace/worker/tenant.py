"""One reference of the desired state on this worker: brought, replaced, and given up, as it is wanted.

    absent → fetching → loading → ready → leaving → (gone)          each step may end in failed, which is tried again

A version that takes another's place is loaded beside it, and new batches go to it at once; the other goes when its
last batch has ended. Where there is not enough memory for both, the new one fails and the old one stays.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from headrace.contract.deployments import Assignment, ModelState
from headrace.contract.errors import HeadraceError
from headrace.models.store import StoredModel
from headrace.models.uses import Use
from headrace.runtime.backoff import Backoff
from headrace.worker.roster import Roster
from headrace.worker.serving import ServingModel

log = structlog.get_logger(__name__)

RETRY_S = (2.0, 60.0)
"""Between tries of what failed: the first, doubled up to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A version that is loaded."""

    assignment: Assignment
    model: ServingModel
    use: Use
    memory_bytes: int


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a tenant is, for people and for the router. Written by it and its bringer."""

    state: ModelState = ModelState.ABSENT
    fetched: float = 0.0
    """Of its files, 0 … 1."""
    problem: str = ""
    ready_at_s: float | None = None
    """When it should be served, by the loop's clock."""


class Bringer(Protocol):
    """What fetches and loads: `headrace.worker.bringing.Bringing`."""

    async def fetch(self, assignment: Assignment, progress: Progress) -> StoredModel:
        """Has the version in the store. Raises a HeadraceError."""
        ...

    async def load(self, assignment: Assignment, stored: StoredModel, progress: Progress) -> Loaded:
        """Loads it, as `assignment.reference`. Raises a HeadraceError."""
        ...

    async def unload(self, loaded: Loaded) -> None:
        """Nothing runs on it."""
        ...


class Tenant:
    """`wanted` is written by `want`, everything else by `run`."""

    def __init__(
        self, reference: str, bringer: Bringer, roster: Roster, *, changed: Callable[[], None]
    ) -> None:
        """`changed` is called whenever `progress` has changed in a way that others should hear of."""
        self.reference = reference
        self.progress = Progress()
        self.loaded: Loaded | None = None
        self.wanted: Assignment | None = None
        self._bringer = bringer
        self._roster = roster
        self._told = changed
        self._changed = asyncio.Event()
        self._going: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Tenant {self.reference}: {self.progress.state.value}>"

    def want(self, assignment: Assignment | None) -> None:
        """What is to be here now; None = nothing."""
        if _same(assignment, self.wanted):
            return
        self.wanted = assignment
        self._changed.set()

    async def run(self) -> None:
        """Makes it so until nothing is wanted and nothing is left. Cancelled, what is loaded stays: see `close`."""
        backoff = Backoff(*RETRY_S)
        while self.wanted is not None or self.loaded is not None:
            self._changed.clear()
            wanted = self.wanted
            if wanted is None:
                await self._leave()
            elif self.loaded is not None and _same(wanted, self.loaded.assignment):
                self._tell(ModelState.READY)
                await self._changed.wait()
            elif await self._bring(wanted):
                backoff.reset()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next_s()):
                        await self._changed.wait()

    async def close(self) -> None:
        """Unloads what is loaded, when nothing runs on it any more; nothing new does."""
        if self._going:
            await asyncio.wait(self._going)
        if self.loaded is not None:
            loaded, self.loaded = self.loaded, None
            await self._roster.unused(loaded.model)
            await self._bringer.unload(loaded)

    async def _bring(self, wanted: Assignment) -> bool:
        """Whether it is served now. Given up at once where something else is wanted meanwhile."""
        bringing = asyncio.create_task(self._fetch_and_load(wanted), name=f"bring {wanted.exact}")
        changing = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({bringing, changing}, return_when=asyncio.FIRST_COMPLETED)
            if not bringing.done():
                bringing.cancel()
            new = await bringing
        except asyncio.CancelledError:
            if bringing.cancelled() and self._changed.is_set():
                return True  # something else is wanted: no failure of this
            bringing.cancel()
            await asyncio.wait({bringing})
            if not bringing.cancelled() and bringing.exception() is None:  # it came in this very moment
                await self._bringer.unload(bringing.result())
            raise
        except HeadraceError as error:
            self._fail(wanted, str(error))
            return False
        except Exception as error:  # a fault of ours in one model must not end the others
            log.exception("model.not_brought", model=wanted.exact)
            self._fail(wanted, f"a fault of this worker: {type(error).__name__}")
            return False
        finally:
            changing.cancel()
        await self._serve(new)
        return True

    async def _fetch_and_load(self, wanted: Assignment) -> Loaded:
        self._tell(ModelState.FETCHING)
        stored = await self._bringer.fetch(wanted, self.progress)
        self._tell(ModelState.LOADING)
        return await self._bringer.load(wanted, stored, self.progress)

    async def _serve(self, new: Loaded) -> None:
        former, self.loaded = self.loaded, new
        self.progress.ready_at_s = None
        log.info("model.ready", model=new.assignment.exact, compute_type=new.model.served.compute_type)
        gone = asyncio.create_task(self._roster.come(new.model), name=f"replace {self.reference}")
        if former is None:
            await gone
        else:
            self._going = [task for task in self._going if not task.done()]
            self._going.append(asyncio.create_task(self._unload_after(gone, former)))
        self._tell(ModelState.READY)

    async def _unload_after(self, gone: asyncio.Task[None], former: Loaded) -> None:
        try:
            await gone
        finally:
            await self._bringer.unload(former)
        log.info("model.replaced", model=former.assignment.exact)

    async def _leave(self) -> None:
        assert self.loaded is not None, "there is something to give up"
        self._tell(ModelState.LEAVING)
        await self._roster.go(self.reference)
        loaded, self.loaded = self.loaded, None
        await self._bringer.unload(loaded)
        log.info("model.unloaded", model=loaded.assignment.exact)

    def _fail(self, wanted: Assignment, problem: str) -> None:
        if self.progress.problem != problem:
            log.warning("model.failed", model=wanted.exact, problem=problem)
        self.progress.ready_at_s = None
        self._tell(ModelState.FAILED, problem)

    def _tell(self, state: ModelState, problem: str = "") -> None:
        if (self.progress.state, self.progress.problem) != (state, problem):
            self.progress.state, self.progress.problem = state, problem
            self._told()


def _same(one: Assignment | None, other: Assignment | None) -> bool:
    """Whether both are the same model in the same form, whenever they were asked for."""
    if one is None or other is None:
        return one is other
    return dataclasses.replace(one, since_s=0.0) == dataclasses.replace(other, since_s=0.0)
