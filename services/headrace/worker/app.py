"""The worker, put together: what each part is given, and in which order they start and stop."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import structlog

from headrace.contract.work import Device, WorkerJoin
from headrace.models.store import ModelStore
from headrace.runtime.backoff import Backoff
from headrace.runtime.grpc_channel import open_channel
from headrace.runtime.log_level import change_level
from headrace.runtime.metrics import Metrics
from headrace.runtime.metrics_start import exported_metrics
from headrace.runtime.recent_spans import FLUSH_S
from headrace.runtime.settings import Settings
from headrace.runtime.shutdown import Shutdown
from headrace.runtime.telemetry import Telemetry, start_telemetry
from headrace.v1.router_pb2_grpc import RouterServiceStub
from headrace.worker.crew import Crew
from headrace.worker.deployment import Here, following, follows
from headrace.worker.device import EngineInventory, choose_piece_tokens, choose_spare_lanes, find_device
from headrace.worker.gate import Gate
from headrace.worker.lane import Lane
from headrace.worker.link import Link
from headrace.worker.metrics import WorkerMetrics, watch_worker
from headrace.worker.outbox import Outbox
from headrace.worker.own_models import own_models
from headrace.worker.roster import Roster
from headrace.worker.routers import Routers
from headrace.worker.serving import Placing, ServingModel
from headrace.worker.session import Session, SessionTimes
from headrace.worker.shape import choose_shape
from headrace.worker.speeds import Speeds

log = structlog.get_logger(__name__)

_HEARTBEATS = 3
"""Within the silence that the router takes for a loss: one or two may be late."""


async def run(settings: Settings, shutdown: Shutdown) -> None:
    """Runs a worker until `shutdown` is requested, then drains it. Raises a HeadraceError where it cannot start.

    On the way out every entry is cancelled, each lane's thread is waited for, and the models are unloaded, in this
    order: the engine aborts a process that ends before that. Of deployed models that comes first, as nothing runs then.
    """
    own = settings.worker
    async with (
        start_telemetry("worker", own.name, traces=settings.traces) as telemetry,
        exported_metrics("worker", own.name, settings.metrics) as metrics,
    ):
        device = find_device(own.device, EngineInventory())
        store = ModelStore(settings.models)
        shape = choose_shape(own, store, device)
        placing = Placing(
            device=device,
            compute_type=own.compute_type,
            lanes=shape.lanes + choose_spare_lanes(own.spare_lanes, shape.lanes),
            threads_per_lane=shape.threads_per_lane,
        )
        loading = own_models(store, own, placing, shape.lanes, shutdown, may_be_none=follows(settings))
        async with loading as models:
            here = Here(store=store, placing=placing, slots=shape.lanes, own=models)
            await _serve(settings, shutdown, telemetry, metrics, here)


async def _serve(
    settings: Settings,
    shutdown: Shutdown,
    telemetry: Telemetry,
    metrics: Metrics,
    here: Here,
) -> None:
    own, placing, slots = settings.worker, here.placing, here.slots
    models = {name: own_model.model for name, own_model in here.own.items()}
    speeds = Speeds()
    outbox = Outbox()
    recorded = WorkerMetrics(metrics)
    rng = random.Random()
    routers = Routers(own.router, rng)
    async with AsyncExitStack() as stack:
        lanes = [await stack.enter_async_context(Lane(index)) for index in range(placing.lanes)]
        crew = Crew(
            lanes,
            models,
            outbox,
            Gate(slots, paused_step_s=own.paused_step_s),
            max_batch=own.max_batch,
            piece_tokens=choose_piece_tokens(own.piece_tokens, placing.device),
            name=own.name,
            tracer=telemetry.tracer if telemetry.on else None,
            metrics=recorded,
            speeds=speeds,
        )
        watch_worker(metrics, lanes=placing.lanes, busy=crew.busy, outbox=outbox)
        roster = Roster(models, crew, outbox)
        join = dataclasses.replace(_describe(settings, placing, slots), metrics=metrics.address)
        times = SessionTimes(
            heartbeat_s=settings.router.worker_timeout_s / _HEARTBEATS, drain_grace_s=own.drain_grace_s
        )

        @asynccontextmanager
        async def open_session(address: str, joined: Callable[[str], None]) -> AsyncIterator[Session]:
            def welcomed(router_id: str) -> None:
                recorded.joined()
                joined(router_id)

            # A channel of its own: one that has failed before would wait before it connects again.
            async with open_channel(address, keepalive=settings.grpc.keepalive) as channel:
                call = RouterServiceStub(channel).Work()
                try:
                    yield Session(
                        call,
                        dataclasses.replace(
                            join, models=tuple(roster.join()), busy_lanes=crew.abandoned_lanes
                        ),
                        crew,
                        outbox,
                        times=times,
                        shutdown=shutdown,
                        joined=welcomed,
                        told=routers.told,
                        released=roster.released,
                        log_level=partial(change_level, as_set=settings.log.level),
                    )
                finally:
                    roster.part()

        link = Link(
            open_session,
            crew,
            outbox,
            routers=routers,
            backoff=Backoff(own.rejoin_wait_s, own.rejoin_max_wait_s, rng),
            shutdown=shutdown,
            about=_about(placing, slots, models),
        )
        if follows(settings):
            await stack.enter_async_context(following(settings, here, roster, speeds, shutdown))
        telling = asyncio.create_task(_tell_spans(telemetry, outbox), name="spans")
        try:
            await link.run()
        finally:
            telling.cancel()


async def _tell_spans(telemetry: Telemetry, outbox: Outbox) -> None:
    """Brings what has ended to the router, until cancelled; one bundle waits there, the others here."""
    while telemetry.recent is not None:
        await asyncio.sleep(FLUSH_S)
        if len(telemetry.recent) and not outbox.has_spans:
            outbox.add_spans(telemetry.recent.take())


def _describe(settings: Settings, placing: Placing, slots: int) -> WorkerJoin:
    """All but the models, which come and go."""
    own = settings.worker
    return WorkerJoin(
        worker_id=f"{own.name}-{uuid.uuid4().hex[:8]}",
        name=own.name,
        version=_version(),
        device=placing.device,
        labels=dict(own.labels),
        lanes=placing.lanes,
        max_batch=own.max_batch,
        models=(),
        started_s=time.time(),
        drain_grace_s=own.drain_grace_s,
        slots=slots,
    )


def _about(placing: Placing, slots: int, models: dict[str, ServingModel]) -> dict[str, object]:
    """What the line says that tells of a join."""
    return {
        "device": _device_name(placing.device),
        "lanes": slots,
        "spare_lanes": placing.lanes - slots,
        "threads_per_lane": placing.threads_per_lane,
        "models": {name: model.served.compute_type for name, model in models.items()},
    }


def _device_name(device: Device) -> str:
    return f"cuda:{device.index}" if device.kind == "cuda" else device.kind


def _version() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "0"
