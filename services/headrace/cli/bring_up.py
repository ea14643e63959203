"""From a planned mesh to one that answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.cli.addresses import dialled
from headrace.cli.full_disk import FullDisk
from headrace.cli.mesh import Hears, Mesh
from headrace.cli.supervisor import Supervisor
from headrace.client.client import HeadraceClient
from headrace.contract.deliver import Model
from headrace.contract.errors import StartError, Unavailable
from headrace.runtime.grpc_channel import open_channel

T = TypeVar("T")

log = structlog.get_logger(__name__)

_LOOK_S = 0.05
"""Between looks at what tells nobody that it has come: a port, a worker's lanes. Only while the mesh starts."""

_PATIENCE_S = 15.0
"""After which the log says what the start is waiting for, and says it again. A large model takes longer to load."""


async def bring_up(mesh: Mesh, children: Supervisor, hears: Hears) -> Sequence[Model]:
    """Starts everything and waits until a request would be answered; gives the models that there are.

    Raises StartError where the NATS server does not get ready. What fails later ends `children.running()`.
    """
    if mesh.nats is not None:
        await _start_nats(mesh, children)
    children.start(mesh.router_spec(hears))
    children.start(mesh.gateway_spec(hears))
    # Workers that found no router would say so, in a log that has nothing else to complain of.
    await _with_patience(_serves(mesh.router), f"the router at {mesh.router} to serve")
    for spec in mesh.worker_specs(hears):
        children.start(spec)
    await _with_patience(_serves(mesh.gateway), f"the gateway at {mesh.gateway} to serve")
    what = "the worker to join" if mesh.workers == 1 else f"{mesh.workers} workers to join"
    models = await _with_patience(_lanes_run(mesh.gateway, _lanes_expected(mesh)), what)
    if mesh.console:  # last: a mesh that answers does not wait for it
        children.start(mesh.console_spec(hears))
        own = mesh.settings.console
        await _with_patience(_listens(dialled(own.host, own.port)), "the console to listen")
    children.settle()
    return models


async def _start_nats(mesh: Mesh, children: Supervisor) -> None:
    server, ready = mesh.nats, asyncio.Event()
    assert server is not None
    output = server.output

    def hears(line: str) -> None:
        output.feed(line)
        if output.ready:
            ready.set()
        full_disk.look()

    child = children.start(mesh.nats_spec(hears))
    full_disk = FullDisk(output, mesh.settings.nats.store_dir, child.restart)
    limit_s = mesh.settings.nats.start_timeout_s
    try:
        async with asyncio.timeout(limit_s):
            await ready.wait()
    except TimeoutError:
        raise StartError(
            f"the embedded NATS server was not ready within {limit_s:g} s",
            "A large store takes longer: raise HEADRACE_NATS_START_TIMEOUT_S",
        ) from None
    child.settle()


def _lanes_expected(mesh: Mesh) -> int:
    """Of all workers together; a single worker that chooses for itself has at least one."""
    return max(1, mesh.lanes_each) * mesh.workers


async def _with_patience(work: Coroutine[Any, Any, T], what: str) -> T:
    """The result of `work`; says in the log what is waited for where it takes long."""
    working = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({working}, timeout=_PATIENCE_S)
            if done:
                return working.result()
            log.warning(f"still waiting for {what}")
    finally:
        working.cancel()


async def _serves(address: str) -> None:
    """Returns when the server's health says SERVING; a gateway's says so once it has the broker and a router."""
    while True:
        await _listens(address)
        async with open_channel(address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.aio.AioRpcError as error:  # it fell; its supervisor starts it again
                log.debug("a health cannot be watched", address=address, status=error.code().name)
        await asyncio.sleep(_LOOK_S)


async def _listens(address: str) -> None:
    """Returns when somebody takes connections there; gRPC's own tries are spaced for outages, not for a start."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError:
            await asyncio.sleep(_LOOK_S)
        else:
            writer.close()
            return


async def _lanes_run(address: str, needed: int) -> Sequence[Model]:
    """Returns the models when at least `needed` lanes run one of them."""
    async with HeadraceClient(address) as client:
        while True:
            with contextlib.suppress(Unavailable):
                models = await client.models()
                if any(model.lanes >= needed for model in models) or not needed:
                    return models
            await asyncio.sleep(_LOOK_S)
