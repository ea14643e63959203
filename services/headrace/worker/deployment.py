"""The desired state on this worker, put together: who fetches, who loads, who hears and reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from headrace.contract.deployments import Assigned, ModelState, NodeModel, NodeReport
from headrace.contract.errors import HeadraceError
from headrace.models.bucket import FilesBucket
from headrace.models.room import DiskLimits
from headrace.models.store import ModelStore
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_state import NatsHealth
from headrace.runtime.settings import Settings
from headrace.runtime.shutdown import Shutdown
from headrace.worker.bringing import Bringing
from headrace.worker.follower import Follower
from headrace.worker.memory import room_bytes
from headrace.worker.own_models import OwnModel
from headrace.worker.roster import Roster
from headrace.worker.serving import Placing
from headrace.worker.speeds import Speeds
from headrace.worker.tenants import Tenants

log = structlog.get_logger(__name__)


def follows(settings: Settings) -> bool:
    """Whether a worker of these settings has models beside those of its own."""
    own = settings.worker.deployments
    return settings.nats.url is not None if own is None else own


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What is here to begin with."""

    store: ModelStore
    placing: Placing
    slots: int
    own: dict[str, OwnModel]


@asynccontextmanager
async def following(
    settings: Settings, here: Here, roster: Roster, speeds: Speeds, shutdown: Shutdown
) -> AsyncIterator[None]:
    """Follows the desired state meanwhile; at the end, when nothing runs any more, all of it is unloaded."""
    follower: list[Follower] = []

    def changed() -> None:
        for each in follower:
            each.report_soon()

    own_models = {name: own.model for name, own in here.own.items()}
    tenants = Tenants(own_models, roster, speeds, changed=changed)
    task = asyncio.create_task(
        _follow(settings, here, tenants, speeds, follower, shutdown), name="deployments"
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        await tenants.close()


async def _follow(
    settings: Settings,
    here: Here,
    tenants: Tenants,
    speeds: Speeds,
    follower: list[Follower],
    shutdown: Shutdown,
) -> None:
    own, health = settings.worker, NatsHealth()
    own_bytes = sum(model.memory_bytes for model in here.own.values())
    try:
        async with connect(settings.nats, f"headrace-worker {own.name}", health.record) as connection:
            tenants.bringer = Bringing(
                here.store,
                FilesBucket(connection),
                here.placing,
                here.slots,
                own,
                limits=DiskLimits(
                    max_bytes=settings.store.max_bytes, min_free_bytes=settings.store.min_free_bytes
                ),
                wanted=tenants.wanted,
                taken=lambda: own_bytes + tenants.memory_bytes(),
                room_to_come=tenants.room_to_come,
                changed=tenants.tell,
            )

            def report() -> NodeReport:
                return _report(settings, here, tenants, speeds, own_bytes, draining=shutdown.draining)

            def want(assigned: Assigned) -> None:
                tenants.want({model.reference: model for model in assigned.models})

            follower.append(
                Follower(
                    connection,
                    own.name,
                    ttl_s=settings.nats.member_ttl_s,
                    health=health,
                    want=want,
                    report=report,
                )
            )
            await follower[0].run()
    except Exception as error:
        # It serves what it has all the same.
        expected = isinstance(error, HeadraceError)
        log.error("deployments.not_followed", problem=str(error), exc_info=None if expected else error)


def _report(
    settings: Settings, here: Here, tenants: Tenants, speeds: Speeds, own_bytes: int, *, draining: bool
) -> NodeReport:
    own, device = settings.worker, here.placing.device
    theirs = tenants.report()
    taken = own_bytes + tenants.memory_bytes()
    free = room_bytes(device, taken)
    most = taken + free if own.memory_bytes is None else min(own.memory_bytes, taken + free)
    mine = tuple(
        NodeModel(
            reference=name,
            version=model.model.served.version,
            state=ModelState.READY,
            progress=1.0,
            compute_type=model.model.served.compute_type,
            memory_bytes=model.memory_bytes,
            tokens_per_s=round(speeds.of(name, model.model.served.version), 1),
            own=True,
        )
        for name, model in here.own.items()
    )
    served = {(model.reference, model.version) for model in mine}
    return NodeReport(
        node=own.name,
        labels=dict(own.labels),
        device=device.kind,
        device_name=device.name,
        memory_bytes=most,
        free_bytes=max(0, most - taken),
        draining=draining,
        models=(*mine, *(m for m in theirs if (m.reference, m.version) not in served)),
    )
