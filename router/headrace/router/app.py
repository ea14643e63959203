"""The router, put together: what each part is given, and in which order they start and stop."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import inf

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.errors import Unavailable
from headrace.models.bucket import FilesBucket
from headrace.models.store import ModelStore
from headrace.router.admin import Admin
from headrace.router.aliases import Aliases
from headrace.router.asked_meter import AskedMeter
from headrace.router.burials import Burials
from headrace.router.cancels import Cancels
from headrace.router.capture import Capture
from headrace.router.catalogue import Catalogue
from headrace.router.clock import Clock
from headrace.router.conductor import Conductor
from headrace.router.core.events import DrainBegan, DrainEnded, PeersServe
from headrace.router.core.judging import Margins
from headrace.router.core.placement import PlacementRules
from headrace.router.core.scheduler import Scheduler
from headrace.router.core.settings import SchedulerSettings
from headrace.router.delivery import Delivery
from headrace.router.deployments import Deployments
from headrace.router.figures import Figures
from headrace.router.gateways import Gateways
from headrace.router.intake import Intake
from headrace.router.leases import Leases
from headrace.router.ledger import Ledger
from headrace.router.members import Membership
from headrace.router.metrics import RouterMetrics, watch_router
from headrace.router.models import RouterModels
from headrace.router.needs import Needs
from headrace.router.outcomes import Outcomes
from headrace.router.ownership import Ownership
from headrace.router.peers import Peers
from headrace.router.placer import Placer
from headrace.router.positions import Positions
from headrace.router.queues import Queues
from headrace.router.recorder import Recorder
from headrace.router.references import ANSWER_S, References
from headrace.router.rollout_metrics import watch_rollouts
from headrace.router.rollouts import Rollouts
from headrace.router.service import SERVICE, RouterService
from headrace.router.shadows import Shadows
from headrace.router.showing import Showing
from headrace.router.spans import RouterSpans
from headrace.router.state import Portrait, Seen
from headrace.router.statics import Statics
from headrace.router.storing import ATTEMPT_S, Storing
from headrace.router.strays import Strays
from headrace.router.versions import Versions
from headrace.router.waits import Waits
from headrace.router.words import Words
from headrace.router.workers import Workers
from headrace.runtime.alias_store import AliasStore
from headrace.runtime.grpc_server import GrpcServer
from headrace.runtime.metrics import Metrics
from headrace.runtime.metrics_start import exported_metrics
from headrace.runtime.nats_admin import AdminAnswers
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_state import BROKER_HEALTH, Link, NatsHealth
from headrace.runtime.nats_upkeep import LayoutKeeper
from headrace.runtime.oversize import Oversize
from headrace.runtime.payloads import Payloads
from headrace.runtime.process_figures import watch_nats
from headrace.runtime.settings import Settings
from headrace.runtime.settings_schedule import by_priority
from headrace.runtime.shutdown import Shutdown
from headrace.runtime.span_sender import SpanSender
from headrace.runtime.telemetry import Telemetry, start_telemetry
from headrace.v1.router_pb2_grpc import add_RouterServiceServicer_to_server

log = structlog.get_logger(__name__)

LAST_WORDS_S = 2.0
"""How long the end of a drain waits for the last outcomes and releases to reach the broker, and then for the routers
that get what was released to ask for its tokens. What does not come in time is delivered again, and begins from what
the gateways have."""


async def run(settings: Settings, shutdown: Shutdown) -> None:
    """Runs a router until `shutdown` is requested, then drains it. Raises a HeadraceError where it cannot start."""
    router_id = settings.router.id or f"r-{uuid.uuid4().hex[:8]}"
    health = NatsHealth()
    async with (
        start_telemetry("router", router_id, traces=settings.traces) as telemetry,
        exported_metrics("router", router_id, settings.metrics) as metrics,
    ):
        connecting = connect(settings.nats, f"headrace-router {router_id}", health.record)
        connection = await shutdown.unless_requested(connecting.__aenter__())
        if connection is None:
            return
        try:
            keeper = LayoutKeeper(connection, settings, health)
            if await shutdown.unless_requested(keeper.first()) is None:
                return
            with (
                _recording(settings) as recorder,
                ThreadPoolExecutor(settings.router.tokenise_threads, "tokenise") as threads,
            ):
                router = Router(
                    settings, router_id, connection, telemetry, metrics, threads, health, keeper, recorder
                )
                await router.run(shutdown)
        finally:
            await connecting.__aexit__(None, None, None)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels them until they have ended: what Python 3.11's `wait_for` waits for can come in the very moment of a
    cancellation, and that is lost then.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=0.1)


class Router:
    """All parts of one router."""

    def __init__(
        self,
        settings: Settings,
        router_id: str,
        connection: Client,
        telemetry: Telemetry,
        metrics: Metrics,
        threads: ThreadPoolExecutor,
        health: NatsHealth,
        keeper: LayoutKeeper,
        recorder: Recorder | None,
    ) -> None:
        self._settings = settings
        self._router_id = router_id
        self._connection = connection
        self._health = health
        self._keeper = keeper
        self._tasks: set[asyncio.Task[None]] = set()
        own = settings.router
        clock = Clock()
        scheduler = Scheduler(_policy(settings))
        waits = Waits(scheduler.load)
        capture = Capture(settings.traces)
        capture.announce()
        spans = RouterSpans(telemetry.tracer, router_id, waits=waits, capture=capture)
        self._sender = SpanSender(connection, telemetry.recent, "router", router_id)
        recorded = RouterMetrics(metrics)
        self._ledger = Ledger()
        self._clock, self._figures = clock, Figures()
        self._conductor = Conductor(
            scheduler,
            clock=clock,
            ledger=self._ledger,
            spans=spans,
            metrics=recorded,
            waits=waits,
            figures=self._figures,
            recorder=recorder,
        )
        tell = self._conductor.tell
        store = ModelStore(settings.models)
        models = self._models = RouterModels(store)
        self._aliases = Aliases(connection, tell, follow=lambda aliases: self._rollouts.follow(aliases))
        self._gateways = Gateways(router_id)
        self._gateways.on_told(self._conductor.catch_up, self._conductor.follow_no_more)
        self._workers = Workers(
            router_id,
            timeout_s=own.worker_timeout_s,
            serves=models.serves,
            tell=tell,
            on_offer=lambda: self._catalogue.look_soon(),
            on_spans=self._sender.pass_on,
        )
        self._deployments = Deployments(connection, on_change=self._wishes_changed)
        self._words = Words(
            store,
            FilesBucket(connection),
            missing=lambda: models.missing,
            fetched=lambda: self._catalogue.look_soon(),
        )
        self._membership = Membership(
            router_id,
            served=self._conductor.served,
            ttl_s=settings.nats.member_ttl_s,
            health=health,
            missed=keeper.missed,
            metrics=metrics.address,
        )
        self._peers = Peers(connection, router_id, ttl_s=settings.nats.member_ttl_s, act=self._peers_changed)
        self._ownership = Ownership(
            connection,
            router_id=router_id,
            ledger=self._ledger,
            health=health,
            wait_s=own.claim_wait_s,
            lease_s=own.ack_wait_s,
            report_s=settings.nats.member_ttl_s,
            max_kept=own.max_held,
            others=self._peers.others,
            taken=self._conductor.taken,
        )
        self._leases = Leases(
            connection,
            ledger=self._ledger,
            ownership=self._ownership,
            health=health,
            ack_wait_s=own.ack_wait_s,
            taken=self._conductor.taken,
        )
        self._delivery = Delivery(connection, gateways=self._gateways, leases=self._leases, health=health)
        references = _references(settings, connection)
        storing = Storing(
            connection.jetstream(timeout=ATTEMPT_S),
            health=health,
            missed=keeper.missed,
            max_wait_s=own.result_retry_max_wait_s,
        )
        burials = Burials(
            connection,
            storing,
            delivery=self._delivery,
            ledger=self._ledger,
            ownership=self._ownership,
            references=references,
            metrics=recorded,
            # A prompt of the largest size, and as much again for all else and for what JSON escapes.
            most_bytes=2 * settings.limits.max_prompt_bytes,
        )
        outcomes = Outcomes(
            connection,
            storing,
            burials,
            ledger=self._ledger,
            delivery=self._delivery,
            references=references,
            spans=spans,
            metrics=recorded,
        )
        self._statics = Statics(connection)
        versions = Versions(
            models=models,
            aliases=self._aliases,
            conductor=self._conductor,
            peers=self._peers,
            first_token_s=by_priority(settings.schedule.first_token_s),
            fallback_wait_s=settings.rollout.fallback_wait_s,
            version_wait_s=settings.rollout.version_wait_s,
        )
        shadows = Shadows(connection, self._aliases, serves=versions.serves, answer_of=outcomes.whole_outcome)
        outcomes.on_copy(shadows.compare)
        self._rollouts = _rollouts(settings, connection, shadows, self._statics)
        self._intake = Intake(
            models=models,
            limits=settings.limits.limits(),
            ledger=self._ledger,
            gateways=self._gateways,
            delivery=self._delivery,
            outcomes=outcomes,
            burials=burials,
            references=references,
            ownership=self._ownership,
            leases=self._leases,
            spans=spans,
            metrics=recorded,
            clock=clock,
            threads=threads,
            recall_wait_s=own.recall_wait_s,
            max_deliveries=own.max_deliveries,
            duplicate_window_s=settings.queues.duplicate_window_s,
            tell=tell,
            place=self._conductor.place,
            resolve=versions.resolve,
            statics=self._statics,
        )
        self._queues = Queues(
            connection,
            health=health,
            ack_wait_s=own.ack_wait_s,
            consumer_idle_s=settings.queues.consumer_idle_s,
            max_queues=own.max_queues,
            tell=tell,
            receive=self._receive,
            strays=Strays(connection, burials.refuse_stray),
            missed=keeper.missed,
        )
        self._conductor.connect(
            queues=self._queues,
            workers=self._workers,
            gateways=self._gateways,
            delivery=self._delivery,
            outcomes=outcomes,
            ownership=self._ownership,
            leases=self._leases,
            rollouts=self._rollouts,
            shadows=shadows,
            statics=self._statics,
            on_fleet=self._membership.fleet_changed,
        )
        self._cancels = Cancels(
            connection, ledger=self._ledger, gateways=self._gateways, conductor=self._conductor
        )
        self._positions = Positions(
            self._ledger, self._gateways, place=self._conductor.place_now, every_s=own.position_every_s
        )
        self._catalogue = Catalogue(
            models=models,
            aliases=self._aliases,
            queues=self._queues,
            gateways=self._gateways,
            conductor=self._conductor,
            workers=self._workers,
            wanted=self._deployments.wanted,
            missing=self._words.fetch_soon,
        )
        self._placer = Placer(
            connection,
            router_id,
            ttl_s=settings.nats.member_ttl_s,
            rules=PlacementRules(swap=settings.placement.swap, residency_s=settings.placement.residency_s),
            grace_s=settings.placement.grace_s,
            deployments=self._deployments,
            needs=Needs(
                AskedMeter(self._queues.take_announced, self._queues.backlogs),
                aliases=self._aliases,
                serves=versions.serves,
                conductor=self._conductor,
                models=models,
            ),
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
            metrics=metrics,
            grace_s=1.0,  # everything was drained before
            max_message_bytes=own.max_message_bytes,
            keepalive=settings.grpc.keepalive,
        )

        self._metrics_address = metrics.address
        watch_nats(metrics, health, connection)
        watch_router(
            metrics,
            ledger=self._ledger,
            waits=self._conductor.waits,
            served=self._conductor.served,
            backlogs=self._queues.backlogs,
            workers=self._workers.members,
            gateways=self._gateways,
        )
        watch_rollouts(metrics, statics=self._statics.counts, shadows=shadows.counts)

    async def run(self, shutdown: Shutdown) -> None:
        """Serves until `shutdown` is requested, drains, and returns."""
        own = self._settings.router
        await self._catalogue.look()
        await shutdown.unless_requested(self._aliases.listen())
        await shutdown.unless_requested(self._statics.listen())
        await self._rollouts.listen()
        await self._cancels.listen()
        await self._ownership.listen()
        await self._peers.listen()
        async with self._server, asyncio.TaskGroup() as group:
            address = own.advertise or self._server.address
            parts = (
                ("queues", self._queues.run()),
                ("delivery", self._delivery.run()),
                ("catalogue", self._catalogue.run()),
                ("aliases", self._aliases.run()),
                ("static prompts", self._statics.run()),
                ("positions", self._positions.run()),
                ("leases", self._leases.run()),
                ("members", self._membership.stay(self._connection.jetstream(), address)),
                ("peers", self._peers.run()),
                ("deployments", self._deployments.view.run()),
                ("words", self._words.run()),
                ("placer", self._placer.run()),
                ("layout", self._keeper.run()),
                ("broker", self._watch_broker()),
                ("spans", self._sender.run()),
                ("showing", self._showing(address, shutdown).run()),
            )
            await self._answer_operators(address, shutdown)
            running = [group.create_task(part, name=name) for name, part in parts]
            log.info("router.ready", router=self._router_id, address=address)
            await shutdown.requested()
            await self._drain(own.drain_grace_s)
            await _end(running)
            await self._sender.flush()

    async def _answer_operators(self, address: str, shutdown: Shutdown) -> None:
        admin = Admin(
            self._router_id,
            address,
            metrics=self._metrics_address,
            workers=self._workers,
            held=lambda: len(self._ledger),
            shutdown=shutdown,
            grace_s=self._settings.router.drain_grace_s,
            log_level=self._settings.log.level,
        )
        await AdminAnswers(
            self._connection, members=admin.members, drain=admin.drain, log_level=admin.log_level
        ).listen()

    def _showing(self, address: str, shutdown: Shutdown) -> Showing:
        def look() -> Seen:
            return Seen(
                workers=self._conductor.workers(),
                waiting=self._conductor.waiting(),
                backlogs=self._queues.backlogs(),
                links=self._workers.links(),
                models=self._models.states(),
                held=len(self._ledger),
                draining=shutdown.draining,
            )

        portrait = Portrait(self._router_id, address, clock=self._clock, figures=self._figures, look=look)
        return Showing(self._connection, self._router_id, portrait=portrait, health=self._health)

    async def _watch_broker(self) -> None:
        """Tells how the broker is; pulls anew on each new connection; ends the router where it was refused for good."""
        health, connections = self._health, self._health.connections
        async for _ in health.changes():
            if health.connections != connections:
                connections = health.connections
                self._queues.reconnected()
                self._deployments.view.renew()
                self._placer.renew()
            if health.state.link is Link.CLOSED:
                raise Unavailable("NATS", health.state.problem or "the connection was closed")
            await self._server.set_serving(SERVICE, serving=health.connected)
            await self._server.set_serving(BROKER_HEALTH, serving=health.sound)

    def _receive(self, message: Msg) -> None:
        task = asyncio.create_task(self._intake.take(message), name="intake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wishes_changed(self) -> None:
        self._catalogue.look_soon()
        self._placer.look_soon()

    def _peers_changed(self) -> None:
        self._conductor.tell(PeersServe(models=self._peers.models()))
        self._workers.tell_peers(self._peers.living())

    async def _drain(self, grace_s: float) -> None:
        """Takes nothing new, gives back what waits, lets what runs end within its grace, gives back the rest."""
        log.info("router.draining", held=len(self._ledger))
        self._membership.leave()
        self._workers.leave()
        await self._queues.stop()
        self._conductor.tell(DrainBegan())
        if not await self._ledger.empty_within(grace_s):
            self._conductor.tell(DrainEnded())
        if not await self._ledger.empty_within(LAST_WORDS_S):
            log.warning("router.left_unsettled", held=len(self._ledger))
        elif not await self._ownership.claimed_within(LAST_WORDS_S):
            log.info("router.left_unclaimed")
        self._conductor.abandon()
        self._gateways.leave()


def _references(settings: Settings, connection: Client) -> References:
    payloads = Payloads(connection, max_bytes=settings.limits.max_payload_bytes, answer_s=ANSWER_S)
    oversize = Oversize(payloads, result_max_age_s=settings.queues.result_max_age_s)
    return References(oversize, max_wait_s=settings.router.result_retry_max_wait_s)


def _rollouts(settings: Settings, connection: Client, shadows: Shadows, statics: Statics) -> Rollouts:
    own = settings.rollout
    objectives = by_priority(settings.schedule.first_token_s)
    return Rollouts(
        connection,
        AliasStore(connection.jetstream()),
        margins=Margins(
            min_requests=own.min_requests,
            error_margin=own.error_margin,
            late_margin=own.late_margin,
            checks=own.checks,
            check_every=own.check_every,
            memory=own.memory,
        ),
        judges=own.auto_roll_back,
        first_token_s=tuple(own.first_token_s if each == inf else each for each in objectives),
        shadows=shadows.counts,
        statics=statics.counts,
    )


@contextmanager
def _recording(settings: Settings) -> Iterator[Recorder | None]:
    """The log of decisions, where one is asked for."""
    own = settings.router
    if own.event_log is None:
        yield None
        return
    with Recorder(own.event_log, _policy(settings), max_bytes=own.event_log_max_bytes) as recorder:
        yield recorder


def _policy(settings: Settings) -> SchedulerSettings:
    own, schedule = settings.router, settings.schedule
    return SchedulerSettings(
        max_held=own.max_held,
        lookahead=own.lookahead,
        max_attempts=own.max_attempts,
        ageing_s=schedule.ageing_s,
        prompt_weight=schedule.prompt_weight,
        output_weight=schedule.output_weight,
        fairness_slack=schedule.fairness_slack,
        tenant_weights=schedule.tenant_weights,
        max_skew=schedule.max_skew,
        max_prefill_s=schedule.max_prefill_s,
        group_gain=schedule.group_gain,
        company_s=schedule.company_s,
        merge_gain=schedule.merge_gain or inf,
        moves=schedule.moves,
        slower=schedule.slower,
        patience=schedule.patience,
        first_token_s=by_priority(schedule.first_token_s),
        token_s=by_priority(schedule.token_s),
    )
