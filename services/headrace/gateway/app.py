"""The gateway, put together: what each part is given, and in which order they start and stop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import grpc.aio
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from opentelemetry.trace import Tracer

from headrace.contract.errors import Unavailable
from headrace.gateway.admin import NAME as ADMIN
from headrace.gateway.admin import AdminService, Own
from headrace.gateway.admission import Admission
from headrace.gateway.aliases import Aliases
from headrace.gateway.attach import Attaching
from headrace.gateway.cancel import Cancels
from headrace.gateway.departures import Departures
from headrace.gateway.embed import Embeddings
from headrace.gateway.following import Following
from headrace.gateway.generate import Generation
from headrace.gateway.guard import Guard
from headrace.gateway.hearing import Hearing
from headrace.gateway.link import Redial
from headrace.gateway.members import Members
from headrace.gateway.membership import Membership
from headrace.gateway.metrics import GatewayMetrics, watch_gateway
from headrace.gateway.originals import Originals
from headrace.gateway.publish import Publisher
from headrace.gateway.readiness import Readiness
from headrace.gateway.reading import Reading
from headrace.gateway.recent import Recent
from headrace.gateway.recovery import Recovery
from headrace.gateway.results import Results
from headrace.gateway.routers import Routers
from headrace.gateway.service import NAME, InferenceService
from headrace.gateway.streams import Streams
from headrace.gateway.submit import Submission
from headrace.runtime.alias_store import AliasStore
from headrace.runtime.backoff import Backoff
from headrace.runtime.grpc_server import GrpcServer
from headrace.runtime.metrics import Metrics
from headrace.runtime.metrics_start import exported_metrics
from headrace.runtime.nats_admin import AdminAnswers
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_upkeep import LayoutKeeper
from headrace.runtime.oversize import Oversize
from headrace.runtime.payloads import Payloads
from headrace.runtime.process_figures import watch_nats
from headrace.runtime.settings import Settings
from headrace.runtime.shutdown import Shutdown
from headrace.runtime.span_sender import SpanSender
from headrace.runtime.static_store import StaticStore
from headrace.runtime.telemetry import start_telemetry
from headrace.v1.admin_pb2_grpc import add_AdminServiceServicer_to_server
from headrace.v1.inference_pb2_grpc import add_InferenceServiceServicer_to_server

log = structlog.get_logger(__name__)

OTHER_CALLS = 1024
"""Calls beside the streams, such as a GetResult that waits. Further ones are refused by gRPC."""

ANSWER_ROOM = 1024 * 1024
"""What an answer may have beside the largest outcome, which is kept as a message or as an object."""

LAST_CALLS_S = 2.0
"""How long calls that still run after the drain get to end."""


async def run(
    settings: Settings, shutdown: Shutdown, on_ready: Callable[[str], None] = lambda address: None
) -> None:
    """Runs a gateway until `shutdown` is requested, then drains it. Raises a HeadraceError where it cannot go on.

    `on_ready` is called with `host:port` once it listens; it serves as soon as a router is connected.
    """
    gateway_id = settings.gateway.id or f"gw-{secrets.token_hex(4)}"
    readiness = Readiness()
    async with (
        start_telemetry("gateway", gateway_id, traces=settings.traces) as telemetry,
        exported_metrics("gateway", gateway_id, settings.metrics) as metrics,
    ):
        connecting = connect(settings.nats, f"headrace-gateway {gateway_id}", readiness.nats.record)
        nc = await shutdown.unless_requested(connecting.__aenter__())
        if nc is None:
            return
        try:
            keeper = LayoutKeeper(nc, settings, readiness.nats)
            if await shutdown.unless_requested(keeper.first()) is None:
                return
            parts = _assemble(
                settings, gateway_id, readiness, nc, keeper, telemetry.tracer, metrics, shutdown
            )
            await parts.answers.listen()
            await parts.recent.listen()
            sender = SpanSender(nc, telemetry.recent, "gateway", gateway_id)
            telling = asyncio.create_task(sender.run(), name="spans")
            try:
                await _serve(settings, shutdown, parts, on_ready)
            finally:
                telling.cancel()
            await sender.flush()
        finally:
            await connecting.__aexit__(None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What runs."""

    readiness: Readiness
    keeper: LayoutKeeper
    streams: Streams
    recovery: Recovery
    hearing: Hearing
    routers: Routers
    cancels: Cancels
    server: GrpcServer
    itself: Own
    answers: AdminAnswers
    membership: Membership
    recent: Recent


def _assemble(
    settings: Settings,
    gateway_id: str,
    readiness: Readiness,
    nc: Client,
    keeper: LayoutKeeper,
    tracer: Tracer,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Parts:
    own = settings.gateway
    js = nc.jetstream(timeout=own.publish_timeout_s)
    recorded = GatewayMetrics(metrics)
    # What happens when clients leave needs parts that need the streams.
    streams = Streams(own.max_concurrent_streams, lambda audience, over: departures.departed(audience, over))
    payloads = Payloads(nc, max_bytes=settings.limits.max_payload_bytes, answer_s=own.publish_timeout_s)
    oversize = Oversize(payloads, result_max_age_s=settings.queues.result_max_age_s)
    results = Results(nc, js, oversize=oversize, timeout_s=own.publish_timeout_s, missed=keeper.missed)
    recovery = Recovery(results, backoff=Backoff(own.rejoin_wait_s, own.rejoin_max_wait_s))
    cancels = Cancels(nc, results, streams, gateway_id=gateway_id, answer_wait_s=own.cancel_wait_s)
    routers = Routers(
        nc,
        js,
        gateway_id=gateway_id,
        streams=streams,
        catalogue=readiness.catalogue,
        recovery=recovery,
        redial=Redial(
            wait_s=own.rejoin_wait_s,
            max_wait_s=own.rejoin_max_wait_s,
            max_message_bytes=settings.router.max_message_bytes,
            keepalive=settings.grpc.keepalive,
        ),
        member_ttl_s=settings.nats.member_ttl_s,
        on_joined=recorded.joined,
    )
    watch_nats(metrics, readiness.nats, nc)
    watch_gateway(metrics, streams=lambda: len(streams), routers=lambda: routers.joined)
    departures = Departures(cancels, routers)
    service = _service(
        settings,
        gateway_id,
        readiness,
        nc=nc,
        js=js,
        streams=streams,
        results=results,
        oversize=oversize,
        routers=routers,
        cancels=cancels,
        keeper=keeper,
        tracer=tracer,
        metrics=recorded,
    )
    recent = Recent(nc, settings.traces)
    aliases = Aliases(nc, AliasStore(js), StaticStore(js), readiness.catalogue, wait_s=own.admin_wait_s)
    members = Members(nc, wait_s=own.admin_wait_s)
    admin = AdminService(Guard(own.admin_token), members, recent, aliases)

    def register(server: grpc.aio.Server) -> None:
        add_InferenceServiceServicer_to_server(service, server)
        add_AdminServiceServicer_to_server(admin, server)

    server = GrpcServer(
        host=own.host,
        port=own.port,
        setting="gateway.port",
        register=register,
        services=(NAME, ADMIN),
        tracer=tracer,
        metrics=metrics,
        grace_s=LAST_CALLS_S,
        max_message_bytes=own.max_request_bytes,
        max_answer_bytes=max(settings.limits.max_payload_bytes, nc.max_payload) + ANSWER_ROOM,
        max_concurrent_calls=own.max_concurrent_streams + OTHER_CALLS,
        keepalive=settings.grpc.client_keepalive,
    )
    itself = Own(
        gateway_id,
        address=lambda: own.advertise or server.address,
        metrics=metrics.address,
        streams=streams,
        shutdown=shutdown,
        grace_s=own.drain_grace_s,
        log_level=settings.log.level,
    )
    return Parts(
        readiness=readiness,
        keeper=keeper,
        streams=streams,
        recovery=recovery,
        hearing=Hearing(nc, results, streams),
        routers=routers,
        cancels=cancels,
        server=server,
        itself=itself,
        answers=AdminAnswers(nc, members=itself.members, drain=itself.drain, log_level=itself.log_level),
        membership=Membership(nc, ttl_s=settings.nats.member_ttl_s),
        recent=recent,
    )


def _service(
    settings: Settings,
    gateway_id: str,
    readiness: Readiness,
    *,
    nc: Client,
    js: JetStreamContext,
    streams: Streams,
    results: Results,
    oversize: Oversize,
    routers: Routers,
    cancels: Cancels,
    keeper: LayoutKeeper,
    tracer: Tracer,
    metrics: GatewayMetrics,
) -> InferenceService:
    own, catalogue = settings.gateway, readiness.catalogue
    admission = Admission(
        settings.limits.limits(),
        catalogue,
        router_wait_s=own.router_wait_s,
        draining=lambda: readiness.draining,
    )
    publisher = Publisher(
        nc,
        js,
        originals=Originals(js, results, oversize),
        catalogue=catalogue,
        oversize=oversize,
        health=readiness.nats,
        missed=keeper.missed,
        tracer=tracer,
        metrics=metrics,
        timeout_s=own.publish_timeout_s,
    )
    following = Following(results, routers, backoff=lambda: Backoff(own.rejoin_wait_s, own.rejoin_max_wait_s))
    reading = Reading(results)
    generation = Generation(
        gateway_id=gateway_id,
        admission=admission,
        streams=streams,
        publisher=publisher,
        catalogue=catalogue,
        following=following,
        reading=reading,
        cancels=cancels,
        expiry_grace_s=own.cancel_wait_s,
        duplicate_window_s=settings.queues.duplicate_window_s,
    )
    return InferenceService(
        generation=generation,
        embeddings=Embeddings(generation, results),
        attaching=Attaching(
            streams=streams, following=following, reading=reading, draining=lambda: readiness.draining
        ),
        submission=Submission(admission=admission, publisher=publisher, catalogue=catalogue),
        results=results,
        cancels=cancels,
        catalogue=catalogue,
        result_wait_s=own.result_wait_s,
        router_wait_s=own.router_wait_s,
    )


async def _serve(
    settings: Settings, shutdown: Shutdown, parts: Parts, on_ready: Callable[[str], None]
) -> None:
    """Serves, drains, stops. On the way down: the server, then what fed it, then the cancellations it left."""
    async with parts.cancels, asyncio.TaskGroup() as tasks:
        background = [
            tasks.create_task(parts.routers.run(), name="routers"),
            tasks.create_task(parts.recovery.run(), name="recovery"),
            tasks.create_task(parts.hearing.run(), name="hearing"),
            tasks.create_task(parts.keeper.run(), name="layout"),
            tasks.create_task(_end_with_nats(parts.readiness), name="nats"),
        ]
        async with parts.server:
            background.append(tasks.create_task(parts.readiness.report(parts.server, NAME), name="readiness"))
            stay = parts.membership.stay(parts.itself.member)
            background.append(tasks.create_task(stay, name="membership"))
            await parts.server.set_serving(ADMIN, serving=True)
            log.info("gateway.ready", address=parts.server.address)
            on_ready(parts.server.address)
            await shutdown.requested()
            await _drain(parts, settings.gateway.drain_grace_s)
        for task in background:
            task.cancel()


async def _drain(parts: Parts, grace_s: float) -> None:
    """Takes no new requests, and waits for the open streams to end, for a while."""
    parts.readiness.drain()
    parts.membership.changed()
    try:
        async with asyncio.timeout(grace_s):
            await parts.streams.wait_empty()
    except TimeoutError:
        log.warning("gateway.streams_cut", streams=parts.streams.cut())


async def _end_with_nats(readiness: Readiness) -> None:
    """Ends the gateway where the broker refused it for good: a new process may be let in again."""
    await readiness.nats.wait_closed()
    raise Unavailable("NATS", readiness.nats.state.problem or "the connection was closed")
