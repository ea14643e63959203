"""The router, put together: what each part is given, and in which order they start and stop."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.errors import Unavailable
from headrace.contract.subjects import MEMBERS_BUCKET
from headrace.models.store import ModelStore
from headrace.router.admin import Admin
from headrace.router.cancels import Cancels
from headrace.router.catalogue import Catalogue
from headrace.router.clock import Clock
from headrace.router.conductor import Conductor
from headrace.router.core.events import DrainBegan, DrainEnded
from headrace.router.core.scheduler import Scheduler, SchedulerSettings
from headrace.router.delivery import Delivery
from headrace.router.gateways import Gateways
from headrace.router.intake import Intake
from headrace.router.leases import extend_leases
from headrace.router.ledger import Ledger
from headrace.router.members import stay_member
from headrace.router.models import RouterModels
from headrace.router.outcomes import Outcomes
from headrace.router.queues import Queues
from headrace.router.service import SERVICE, RouterService
from headrace.router.spans import RouterSpans
from headrace.router.workers import Workers
from headrace.runtime.grpc_server import GrpcServer
from headrace.runtime.nats_admin import AdminAnswers
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_state import Link, NatsHealth
from headrace.runtime.settings import Settings
from headrace.runtime.shutdown import Shutdown
from headrace.runtime.telemetry import Telemetry, start_telemetry
from headrace.v1.router_pb2_grpc import add_RouterServiceServicer_to_server

log = structlog.get_logger(__name__)

LAST_WORDS_S = 2.0
"""How long the end of a drain waits for the last outcomes and releases to reach the broker; what does not is
delivered again, and answered then."""


async def run(settings: Settings, shutdown: Shutdown) -> None:
    """Runs a router until `shutdown` is requested, then drains it. Raises a HeadraceError where it cannot start."""
    router_id = settings.router.id or f"r-{uuid.uuid4().hex[:8]}"
    health = NatsHealth()
    async with start_telemetry("router", router_id) as telemetry:
        connecting = connect(settings.nats, f"headrace-router {router_id}", health.record)
        connection = await shutdown.unless_requested(connecting.__aenter__())
        if connection is None:
            return
        try:
            await ensure_layout(connection, settings)
            with ThreadPoolExecutor(settings.router.tokenise_threads, "tokenise") as threads:
                router = Router(settings, router_id, connection, telemetry, threads)
                await router.run(shutdown, health)
        finally:
            await connecting.__aexit__(None, None, None)


class Router:
    """All parts of one router."""

    def __init__(
        self,
        settings: Settings,
        router_id: str,
        connection: Client,
        telemetry: Telemetry,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._settings = settings
        self._router_id = router_id
        self._connection = connection
        self._tasks: set[asyncio.Task[None]] = set()
        own = settings.router
        clock = Clock()
        spans = RouterSpans(telemetry.tracer, router_id)
        self._ledger = Ledger()
        self._conductor = Conductor(
            Scheduler(
                SchedulerSettings(
                    max_held=own.max_held, lookahead=own.lookahead, max_attempts=own.max_attempts
                )
            ),
            clock=clock,
            ledger=self._ledger,
            spans=spans,
        )
        tell = self._conductor.tell
        models = RouterModels(ModelStore(settings.models))
        self._gateways = Gateways(router_id)
        self._gateways.on_held(self._conductor.catch_up)
        self._workers = Workers(
            router_id, timeout_s=own.worker_timeout_s, versions=models.versions, tell=tell
        )
        self._delivery = Delivery(connection, self._gateways)
        outcomes = Outcomes(
            connection,
            ledger=self._ledger,
            delivery=self._delivery,
            spans=spans,
            max_wait_s=own.result_retry_max_wait_s,
        )
        self._intake = Intake(
            models=models,
            limits=settings.limits.limits(),
            ledger=self._ledger,
            gateways=self._gateways,
            delivery=self._delivery,
            outcomes=outcomes,
            spans=spans,
            clock=clock,
            threads=threads,
            tell=tell,
        )
        self._queues = Queues(
            connection,
            ack_wait_s=own.ack_wait_s,
            consumer_idle_s=settings.queues.consumer_idle_s,
            max_queues=own.max_queues,
            tell=tell,
            receive=self._receive,
        )
        self._conductor.connect(
            queues=self._queues, workers=self._workers, delivery=self._delivery, outcomes=outcomes
        )
        self._cancels = Cancels(connection, ledger=self._ledger, conductor=self._conductor)
        self._catalogue = Catalogue(
            models=models, queues=self._queues, gateways=self._gateways, conductor=self._conductor
        )
        self._server = GrpcServer(
            host=own.host,
            port=own.port,
            setting="router.port",
            register=lambda server: add_RouterServiceServicer_to_server(
                RouterService(self._workers, self._gateways), server
            ),
            services=(SERVICE,),
            tracer=telemetry.tracer,
            grace_s=1.0,  # everything was drained before
            max_message_bytes=own.max_message_bytes,
            keepalive=settings.grpc.keepalive,
        )

    async def run(self, shutdown: Shutdown, health: NatsHealth) -> None:
        """Serves until `shutdown` is requested, drains, and returns."""
        own = self._settings.router
        await self._catalogue.look()
        await self._cancels.listen()
        members = await self._connection.jetstream().key_value(MEMBERS_BUCKET)
        async with self._server, asyncio.TaskGroup() as group:
            address = own.advertise or self._server.address
            parts = (
                ("queues", self._queues.run()),
                ("delivery", self._delivery.run()),
                ("catalogue", self._catalogue.run()),
                ("leases", extend_leases(self._connection, self._ledger, own.ack_wait_s)),
                ("members", stay_member(members, self._router_id, address, self._settings.nats.member_ttl_s)),
                ("broker", self._watch_broker(health)),
            )
            await self._answer_operators(address, shutdown)
            running = [group.create_task(part, name=name) for name, part in parts]
            await self._server.set_serving(SERVICE, serving=True)
            log.info("router.ready", router=self._router_id, address=address)
            await shutdown.requested()
            await self._drain(own.drain_grace_s)
            for task in running:
                task.cancel()

    async def _answer_operators(self, address: str, shutdown: Shutdown) -> None:
        admin = Admin(
            self._router_id,
            address,
            workers=self._workers,
            held=lambda: len(self._ledger),
            shutdown=shutdown,
            grace_s=self._settings.router.drain_grace_s,
        )
        await AdminAnswers(self._connection, members=admin.members, drain=admin.drain).listen()

    async def _watch_broker(self, health: NatsHealth) -> None:
        """Pulls anew after each reconnection; ends the router where the broker refused it for good."""
        async for state in health.changes():
            await self._server.set_serving(SERVICE, serving=state.link is Link.CONNECTED)
            if state.link is Link.CONNECTED:
                self._queues.reconnected()
            elif state.link is Link.CLOSED:
                raise Unavailable("NATS", state.problem or "the connection was closed")

    def _receive(self, message: Msg) -> None:
        task = asyncio.create_task(self._intake.take(message), name="intake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, grace_s: float) -> None:
        """Takes nothing new, gives back what waits, lets what runs end within its grace, gives back the rest."""
        log.info("router.draining", held=len(self._ledger))
        self._workers.leave()
        self._conductor.tell(DrainBegan())
        if not await self._ledger.empty_within(grace_s):
            self._conductor.tell(DrainEnded())
        if not await self._ledger.empty_within(LAST_WORDS_S):
            log.warning("router.left_unsettled", held=len(self._ledger))
        self._conductor.abandon()
        self._gateways.leave()
