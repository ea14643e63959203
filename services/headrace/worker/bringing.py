"""How a version comes onto this worker: out of the broker into the store, and from there, verified, into memory."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import structlog

from headrace.contract.deployments import ANY, Assignment
from headrace.contract.errors import StartError
from headrace.contract.references import parse_reference
from headrace.models.bucket import FilesBucket
from headrace.models.errors import DamagedModel, ModelInUse, NotEnoughMemory
from headrace.models.fetch import FetchRules, fetch
from headrace.models.room import DiskLimits, remove_unused
from headrace.models.store import ModelStore, StoredModel
from headrace.models.uses import Use, begin_use
from headrace.runtime.settings import WorkerSettings
from headrace.worker.known_cost import with_cost
from headrace.worker.memory import check_memory, need_of, room_bytes
from headrace.worker.serving import Placing, ServingModel, load_model
from headrace.worker.tenant import Loaded, Progress

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

FETCHES = 2
"""At once: more would not be faster, and none would be there soon."""
LOAD_BYTES_PER_S = 200e6
"""How fast files are verified and loaded, until this worker has done it."""
_WEIGHT = 0.5
"""Of one load in that rate."""
TOLD_EVERY = 0.01
"""Of a model's files, how much is fetched between two words about it."""


class Bringing:
    """Fetches a few at a time, and loads one at a time, so that each sees the memory that the last one has left."""

    def __init__(
        self,
        store: ModelStore,
        bucket: FilesBucket,
        placing: Placing,
        slots: int,
        own: WorkerSettings,
        *,
        limits: DiskLimits,
        wanted: Callable[[], Collection[str]],
        taken: Callable[[], int],
        room_to_come: Callable[[], Awaitable[bool]],
        changed: Callable[[], None],
    ) -> None:
        """`wanted` has the `name@version` that stay in the store, `taken` is the memory of what is loaded;
        `room_to_come` waits for a model that is leaving, and says whether there was one; `changed` is called as files
        come in.
        """
        self._store = store
        self._bucket = bucket
        self._placing = placing
        self._slots = slots
        self._own = own
        self._rules = FetchRules(limits=limits, wanted=wanted)
        self._taken = taken
        self._room_to_come = room_to_come
        self._changed = changed
        self._fetching = asyncio.Semaphore(FETCHES)
        self._loading = asyncio.Lock()
        self._rate = LOAD_BYTES_PER_S

    async def fetch(self, assignment: Assignment, progress: Progress) -> StoredModel:
        """Has the version in the store. Raises ModelError, Unavailable."""
        name = parse_reference(assignment.reference).name
        began_s, first = _now(), 0
        told = -1.0

        def report(done: int, total: int) -> None:
            nonlocal first, told
            share = done / total if total else 1.0
            if not first:
                first = done
            progress.fetched = share
            spent_s, fetched = _now() - began_s, done - first
            if fetched > 0:
                left_s = (total - done) * spent_s / fetched
                progress.ready_at_s = _now() + left_s + self._load_s(total)
            if share - told >= TOLD_EVERY or done == total:
                told = share
                self._changed()

        async with self._fetching:
            stored = await fetch(self._store, self._bucket, name, assignment.version, self._rules, report)
        progress.fetched = 1.0
        return stored

    async def load(self, assignment: Assignment, stored: StoredModel, progress: Progress) -> Loaded:
        """Verifies and loads it, where the memory allows. Raises StartError, NotEnoughMemory, ModelError."""
        use = await asyncio.to_thread(begin_use, self._store, stored)
        try:
            async with self._loading:
                progress.ready_at_s = _now() + self._load_s(stored.manifest.size)
                self._changed()
                return await self._load(assignment, stored, use)
        except BaseException as error:
            use.end()
            if isinstance(error, StartError) and isinstance(error.__cause__, DamagedModel):
                self._discard(stored)  # the next try fetches it anew
            raise

    async def unload(self, loaded: Loaded) -> None:
        """Frees its memory."""
        try:
            await finished(asyncio.create_task(asyncio.to_thread(loaded.model.engine.close)))
        finally:
            loaded.use.end()

    async def _load(self, assignment: Assignment, stored: StoredModel, use: Use) -> Loaded:
        placing = self._placing
        if assignment.compute_type != ANY:
            placing = dataclasses.replace(placing, compute_type=assignment.compute_type)
        need = await asyncio.to_thread(need_of, stored, placing)
        while True:
            try:
                needed = check_memory(
                    assignment.exact,
                    need,
                    slots=self._slots,
                    max_batch=self._own.max_batch,
                    free=room_bytes(placing.device, self._taken()),
                    taken=self._taken(),
                    limit=self._own.memory_bytes,
                    remedy="undeploy another model here, give worker.memory_bytes more, or deploy it to larger nodes",
                )
                break
            except NotEnoughMemory:
                if not await self._room_to_come():
                    raise
        began_s = _now()
        loading = asyncio.create_task(asyncio.to_thread(self._load_now, stored, placing))
        try:
            model, loaded_s = await finished(loading)
        except asyncio.CancelledError:
            if not loading.cancelled() and loading.exception() is None:
                await finished(asyncio.create_task(asyncio.to_thread(loading.result()[0].engine.close)))
            raise
        self._rate += _WEIGHT * (stored.manifest.size / max(loaded_s, 1e-3) - self._rate)
        served = dataclasses.replace(model.served, name=assignment.reference)
        log.info(
            "model.loaded", model=assignment.exact, seconds=round(_now() - began_s, 2), needed_bytes=needed
        )
        return Loaded(
            assignment=assignment,
            model=dataclasses.replace(model, served=served),
            use=use,
            memory_bytes=needed,
        )

    def _load_now(self, stored: StoredModel, placing: Placing) -> tuple[ServingModel, float]:
        """The model with its cost, and how long loading took. Blocks."""
        began_s = time.monotonic()
        model = load_model(self._store, stored.reference, placing)
        loaded_s = time.monotonic() - began_s
        try:
            return with_cost(model, self._store, placing, self._own), loaded_s
        except BaseException:
            model.engine.close()
            raise

    def _load_s(self, size: int) -> float:
        return size / self._rate + self._own.quick_calibration_s

    def _discard(self, stored: StoredModel) -> None:
        try:
            remove_unused(self._store, stored)
        except ModelInUse as error:
            log.warning("model.damaged_and_in_use", model=stored.reference, problem=str(error))


async def finished(task: asyncio.Task[_T]) -> _T:
    """The result of what runs in a thread, and cannot be stopped there: a cancellation comes after its end."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _now() -> float:
    return asyncio.get_running_loop().time()
