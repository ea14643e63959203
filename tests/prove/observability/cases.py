"""Ten requests that are slow or fail, each for another reason: what its trace says of it, in words.

python -m tests.prove.observability.cases            prints case → sentence
python -m tests.prove.observability.cases flooded    one of them
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc.aio

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError, NotFound
from headrace.contract.ids import new_request_id
from headrace.contract.spans import RequestTrace
from headrace.contract.values import Accepted, Priority, TokenChunk
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.runtime import trace_names as names
from headrace.v1 import common_pb2, inference_pb2
from headrace.v1.inference_pb2_grpc import InferenceServiceStub
from tests.integration.processes import Processes
from tests.tcp_proxy import TcpProxy

STEP_S = 0.01
PREFILL_S = 0.0005
LOAD_S = 1.5
TOLD_S = 15.0
"""For the spans to be there, on a loaded machine."""


class Named(Processes):
    """Processes that are called by their names in traces, too; the workers go to the first router while it lives."""

    async def start(self, name: str, **environment: str) -> None:
        own = {"HEADRACE_ROUTER_ID": name}
        if name.startswith("worker"):
            routers = ",".join(self.address_of(router) for router in NAMES[:2])
            own = {"HEADRACE_WORKER_NAME": name, "HEADRACE_WORKER_ROUTER": routers}
        await super().start(name, **{**own, **environment})


@dataclass(slots=True)
class Mesh:
    """What a case needs: processes it may kill, a client, and an operator."""

    processes: Processes
    client: HeadraceClient
    admin: AdminClient
    proxy: TcpProxy
    """Between the gateway and the broker."""
    said: dict[str, tuple[str, ...]] = field(default_factory=dict)

    async def told(self, request_id: str) -> RequestTrace:
        """Its trace, once the router and the call have told how it ended."""
        async with asyncio.timeout(TOLD_S):
            while True:
                try:
                    found = await self.admin.trace(request_id)
                    asked = any(span.name.endswith(("/Generate", "/Submit")) for span in found.spans)
                    held = any(
                        span.name == names.SPAN_PROCESS_REQUEST and names.OUTCOME in span.attributes
                        for span in found.spans
                    )
                    if asked and held:
                        return found
                except NotFound:
                    pass
                await asyncio.sleep(0.2)  # spans are told every quarter of a second

    async def submit(self, count: int, tokens: int, **ask: Any) -> None:
        """Requests that nobody waits for."""
        for _ in range(count):
            await self.client.submit(model="fake", prompt="others", max_tokens=tokens, ignore_end=True, **ask)


async def ask(mesh: Mesh, tokens: int = 20, **wanted: Any) -> str:
    """A request to its end, however that is; its id."""
    request_id = ""
    wanted = {"model": "fake", "prompt": "why", "ignore_end": True, **wanted}
    try:
        async with aclosing(mesh.client.generate(max_tokens=tokens, **wanted)) as events:
            async for event in events:
                if isinstance(event, Accepted):
                    request_id = event.request_id
    except HeadraceError:
        pass  # its trace says so
    return request_id


async def flooded(mesh: Mesh) -> str:
    """60 requests of its own queue go before it."""
    await mesh.submit(60, 20)
    return await ask(mesh)


async def slow_client(mesh: Mesh) -> str:
    """It takes one message, and then none for two seconds, over a connection that holds little."""
    request_id = new_request_id()
    options = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
    async with grpc.aio.insecure_channel(mesh.processes.address, options=options) as channel:
        call = InferenceServiceStub(channel).Generate(
            inference_pb2.GenerateRequest(
                request_id=request_id,
                model="fast",
                prompt="why",
                max_tokens=3000,
                sampling=common_pb2.Sampling(ignore_end=True),
            )
        )
        await call.read()
        await asyncio.sleep(2.5)
        while await call.read() is not grpc.aio.EOF:
            pass
    return request_id


async def lost_worker(mesh: Mesh) -> str:
    """The worker that runs it is killed; the other one goes on."""
    request_id = new_request_id()
    events = mesh.client.generate(
        model="fake", prompt="why", max_tokens=100, ignore_end=True, request_id=request_id
    )
    killed = ""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TokenChunk) and not killed and event.next_index >= 30:
                killed = await running_on(mesh)
                await mesh.processes.kill(killed)
    await mesh.processes.start(killed)
    await lanes(mesh, 2)
    return request_id


async def running_on(mesh: Mesh) -> str:
    """The process of the one worker that runs something."""
    for member in await mesh.admin.members():
        if member.kind.value == "worker" and member.requests:
            return member.id
    raise AssertionError("no worker runs anything")


async def lanes(mesh: Mesh, workers: int) -> None:
    """Returns when so many workers are there."""
    async with asyncio.timeout(60):
        while True:  # a start of processes has no event that an operator could wait for
            if sum(member.kind.value == "worker" for member in await mesh.admin.members()) >= workers:
                return
            await asyncio.sleep(0.1)


async def huge_neighbour(mesh: Mesh) -> str:
    """It shares its batch with a prompt a hundred times its length, as both waited and skew is allowed."""
    taken = [asyncio.create_task(ask(mesh, 100, prompt="p" * n)) for n in (5, 6)]  # of both workers' lanes
    await asyncio.sleep(0.3)
    huge = asyncio.create_task(ask(mesh, 20, model="misjudged", prompt="x" * 3000))
    small = asyncio.create_task(ask(mesh, 20, model="misjudged"))
    await asyncio.gather(*taken)
    request_id = await small
    await huge
    return request_id


async def model_loading(mesh: Mesh) -> str:
    """No worker has the model until one starts, which loads it."""
    for name in ("worker-1", "worker-2"):
        await mesh.processes.stop(name)
    asking = asyncio.create_task(ask(mesh))
    await asyncio.sleep(0.5)
    for name in ("worker-1", "worker-2"):
        await mesh.processes.start(name)
    request_id = await asking
    await lanes(mesh, 2)
    return request_id


async def deadline(mesh: Mesh) -> str:
    """It has a second, and would take four."""
    return await ask(mesh, 400, timeout_s=1.0)


async def engine_error(mesh: Mesh) -> str:
    """Its prompt makes the engine fail wherever it runs."""
    return await ask(mesh, prompt="\x00")


async def paused(mesh: Mesh) -> str:
    """Two urgent requests take both lanes while it runs."""
    request_id = new_request_id()
    events = mesh.client.generate(
        model="fake",
        prompt="why",
        max_tokens=100,
        ignore_end=True,
        request_id=request_id,
        priority=Priority.BATCH,
    )
    urgent: list[asyncio.Task[str]] = []
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Accepted):
                await mesh.submit(1, 100, priority=Priority.BATCH)
            if isinstance(event, TokenChunk) and not urgent and event.next_index >= 10:
                urgent = [
                    asyncio.create_task(ask(mesh, 150, priority=Priority.REALTIME, prompt=f"{n}"))
                    for n in (1, 22)
                ]
    await asyncio.gather(*urgent)
    return request_id


async def lost_router(mesh: Mesh) -> str:
    """The router that holds it is killed; the other one takes it over."""
    request_id = new_request_id()
    events = mesh.client.generate(
        model="fake", prompt="why", max_tokens=150, ignore_end=True, request_id=request_id
    )
    killed = ""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TokenChunk) and not killed and event.next_index >= 40:
                await asyncio.sleep(0.5)  # the router's first spans are told by now
                killed = await held_by(mesh)
                await mesh.processes.kill(killed)
    await mesh.processes.start(killed)
    return request_id


async def held_by(mesh: Mesh) -> str:
    """The process of the router that holds a request."""
    for member in await mesh.admin.members():
        if member.kind.value == "router" and member.requests:
            return member.id
    raise AssertionError("no router holds anything")


async def slow_broker(mesh: Mesh) -> str:
    """What the gateway publishes is a second and a half on its way."""
    mesh.proxy.swallow()
    asking = asyncio.create_task(ask(mesh))
    await asyncio.sleep(1.5)
    await mesh.proxy.heal()
    return await asking


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request, and what the first sentence of its trace must say."""

    make: Callable[[Mesh], Awaitable[str]]
    must_say: str


CASES: Mapping[str, Case] = {
    "flooded queue": Case(make=flooded, must_say=r"in the queue behind \d+ requests? .*normal"),
    "slow client": Case(make=slow_client, must_say=r"The client was slow: "),
    "lost worker": Case(
        make=lost_worker, must_say=r"Worker worker-\d was lost after \d+ tokens; .*, on worker-\d"
    ),
    "huge neighbour": Case(make=huge_neighbour, must_say=r"shared its batch with a prompt of 30\d\d tokens"),
    "deadline": Case(make=deadline, must_say=r"Its deadline of .* passed after \d+ of at most 400 tokens"),
    "engine error": Case(make=engine_error, must_say=r"The engine failed at each of its \d attempts"),
    "paused by a realtime request": Case(
        make=paused, must_say=r"paused for .* as realtime work went before it"
    ),
    "model loading": Case(
        make=model_loading, must_say=r"No worker had the model loaded for .* loaded it for"
    ),
    "NATS slow": Case(make=slow_broker, must_say=r"NATS was slow: it took .* to confirm the request"),
    "router lost": Case(make=lost_router, must_say=r"Router router-\d was lost; .* until router-\d went on"),
}

ENVIRONMENT = {
    "HEADRACE_WORKER_MODELS": "fake,fast,misjudged",
    "HEADRACE_WORKER_LANES": "1",
    "HEADRACE_WORKER_SPARE_LANES": "2",
    "HEADRACE_WORKER_MAX_BATCH": "2",
    "HEADRACE_WORKER_DRAIN_GRACE_S": "1",
    "HEADRACE_SCHEDULE_MAX_SKEW": "4096",
}
NAMES = ("router-1", "router-2", "gateway", "worker-1", "worker-2")


async def run(folder: Path, wanted: Mapping[str, Case]) -> dict[str, tuple[str, bool]]:
    """By case: the first sentence, and whether it says what it must."""
    store = ModelStore(folder / "models")
    install_fake_model(store, timing=FakeTiming(step_s=STEP_S, prefill_s_per_token=PREFILL_S, load_s=LOAD_S))
    misjudged = FakeTiming(prefill_s_per_token=0.001, misjudged_s_per_token=0.0008)
    install_fake_model(store, "misjudged", timing=misjudged)
    install_fake_model(store, "fast", timing=FakeTiming(step_s=0.0001))
    found: dict[str, tuple[str, bool]] = {}
    async with AsyncExitStack() as stack:
        processes = Named(folder, models=folder / "models", names=NAMES, environment=ENVIRONMENT)
        await stack.enter_async_context(processes)
        proxy = await stack.enter_async_context(TcpProxy(int(processes.nats_url.rsplit(":", 1)[1])))
        await processes.stop("gateway")
        await processes.start("gateway", HEADRACE_NATS_URL=proxy.url)
        await processes.ready()
        client = await stack.enter_async_context(HeadraceClient(processes.address))
        admin = await stack.enter_async_context(AdminClient(processes.address))
        mesh = Mesh(processes, client, admin, proxy)
        await lanes(mesh, 2)
        for name, case in wanted.items():
            told = await mesh.told(await case.make(mesh))
            found[name] = (told.causes[0], re.search(case.must_say, told.causes[0]) is not None)
            print(f"{name:30} {'' if found[name][1] else 'WRONG: '}{' '.join(told.causes)}", flush=True)
    return found


async def explained(folder: Path) -> Mapping[str, float]:
    """All of them: how many say something else than what was prepared."""
    found = await run(folder, CASES)
    return {"cases": float(len(found)), "wrong": float(sum(not right for _, right in found.values()))}


def main() -> None:
    wanted = {
        name: case for name, case in CASES.items() if not sys.argv[1:] or any(a in name for a in sys.argv[1:])
    }
    with TemporaryDirectory(prefix="headrace-cases-") as folder:
        found = asyncio.run(run(Path(folder), wanted))
    sys.exit(0 if all(right for _, right in found.values()) else 1)


if __name__ == "__main__":
    main()
