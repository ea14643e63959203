"""The models that a worker serves by its own settings, from its start to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from headrace.contract.errors import HeadraceError
from headrace.models.store import ModelStore
from headrace.models.uses import begin_use
from headrace.runtime.settings import WorkerSettings
from headrace.runtime.shutdown import Shutdown
from headrace.worker.known_cost import with_cost
from headrace.worker.memory import check_memory, need_of, room_bytes
from headrace.worker.serving import Placing, ServingModel, choose_models, load_model


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModel:
    """One of them."""

    model: ServingModel
    memory_bytes: int
    """That is reckoned with for it."""


@asynccontextmanager
async def own_models(
    store: ModelStore,
    own: WorkerSettings,
    placing: Placing,
    slots: int,
    shutdown: Shutdown,
    *,
    may_be_none: bool,
) -> AsyncIterator[dict[str, OwnModel]]:
    """The models by name, each with its cost, unloaded at the end. Once `shutdown` is requested no further one is
    loaded. Raises StartError, and NotEnoughMemory before one is loaded that does not fit.
    """
    async with AsyncExitStack() as stack:
        models: dict[str, OwnModel] = {}
        names = (
            () if may_be_none and not own.models and not store.names() else choose_models(store, own.models)
        )
        for name in names:
            if not shutdown.draining:
                taken = sum(model.memory_bytes for model in models.values())
                needed = await _check(store, name, own, placing, slots, taken)
                model = await asyncio.to_thread(load_model, store, name, placing)
                stack.push_async_callback(asyncio.to_thread, model.engine.close)
                stack.callback((await asyncio.to_thread(begin_use, store, store.open(name))).end)
                model = await asyncio.to_thread(with_cost, model, store, placing, own)
                models[name] = OwnModel(model=model, memory_bytes=needed)
        yield models


async def _check(
    store: ModelStore, name: str, own: WorkerSettings, placing: Placing, slots: int, taken: int
) -> int:
    try:
        need = await asyncio.to_thread(need_of, store.open(name), placing)
    except HeadraceError:
        return 0  # what is wrong with it is said when it is loaded
    return check_memory(
        name,
        need,
        slots=slots,
        max_batch=own.max_batch,
        free=room_bytes(placing.device, taken),
        taken=taken,
        limit=own.memory_bytes,
        remedy="serve fewer models (worker.models), use another compute type, or give worker.memory_bytes more",
    )
