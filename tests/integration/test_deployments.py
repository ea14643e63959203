"""Models that are wanted, fetched, served, replaced and given up, through a mesh whose nodes have none to begin
with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
from nats.aio.client import Client

from headrace.client.client import HeadraceClient
from headrace.contract.deployments import ModelState
from headrace.contract.errors import InvalidRequest, Unavailable, UnknownModel
from headrace.contract.values import Accepted, Outcome, OutcomeKind, TokenChunk
from headrace.gateway import app as gateway_app
from headrace.models.bucket import FilesBucket
from headrace.models.desired import Place, Terms, deploy, places, remove_from_bucket, undeploy
from headrace.models.errors import ModelInUse, ModelNotFound
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.push import push
from headrace.models.store import ModelStore, StoredModel
from headrace.router import app as router_app
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings, load_settings
from headrace.worker import app as worker_app
from tests.integration.local_mesh import LIMIT_S, QUICK, _quiet, running
from tests.ports import free_ports

pytestmark = pytest.mark.integration


@dataclass
class Mesh:
    """Router and gateway without a model; workers as the test starts them, each with a store of its own."""

    nats: Client
    client: HeadraceClient
    store: ModelStore
    """The operator's."""
    folder: Path
    settings: dict[str, Any]
    server: EmbeddedNats
    workers: dict[str, AsyncExitStack] = field(default_factory=dict)

    def model(self, name: str = "chat", step_s: float = 0.001, **how: Any) -> StoredModel:
        """A version of a model: each timing, and each length of context, is another."""
        return install_fake_model(
            self.store, name, timing=FakeTiming(step_s=step_s, **how.pop("timing", {})), **how
        )

    async def push(self, model: StoredModel) -> None:
        await push(FilesBucket(self.nats), model)

    async def deploy(self, reference: str, **terms: Any) -> None:
        await deploy(self.nats, self.store, reference, Terms(**terms))

    async def start_worker(self, name: str, **settings: Any) -> ModelStore:
        own = {"worker.name": name, "models": self.folder / name, **settings}
        stack = self.workers[name] = AsyncExitStack()
        loaded = load_settings({**self.settings, **own}, environ={})
        await stack.enter_async_context(running(worker_app.run, loaded))
        return ModelStore(self.folder / name)

    async def restart_nats(self) -> None:
        """At the same address, with what it had stored; returns when the test's own client is back."""
        port = urlsplit(self.server.url).port
        assert port is not None
        self.server.stop()
        self.server = EmbeddedNats(NatsSettings(port=port, store_dir=self.folder / "nats"))
        self.server.start()
        async with asyncio.timeout(LIMIT_S):
            while not self.nats.is_connected:  # noqa: ASYNC110 — its callbacks are the fixture's
                await asyncio.sleep(0.02)
        await self.listed("chat")

    async def stop_worker(self, name: str) -> None:
        await self.workers.pop(name).aclose()

    async def until(self, holds: Callable[[list[Place]], bool]) -> list[Place]:
        """Looks as `headrace model ps` does, until it sees what it should."""
        seen: list[Place] = []
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    seen = list(await places(self.nats))
                    if holds(seen):
                        return seen
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never seen; at last: {seen}") from None

    async def ready(self, reference: str, version: str, nodes: int = 1) -> list[Place]:
        """Until so many nodes serve that version."""

        def holds(seen: list[Place]) -> bool:
            there = [p for p in seen if p.reference == reference and p.state is ModelState.READY]
            return len(there) == nodes and all(place.version == version for place in there)

        seen = await self.until(holds)
        await self.listed(reference)
        return [place for place in seen if place.state is ModelState.READY]

    async def listed(self, name: str, *, is_there: bool = True) -> None:
        """Until the gateway has the model, or has it no more."""
        async with asyncio.timeout(LIMIT_S):
            while (name in [m.name for m in await self.client.models()]) is not is_there:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # a gateway tells nobody

    async def told_to_wait(self) -> float | None:
        """What a new request is told, which then leaves."""
        async for event in self.client.generate(prompt="hello", model="chat", max_tokens=5):
            assert isinstance(event, Accepted)
            return event.position.estimated_wait_s
        raise AssertionError("a request is accepted first")

    async def ask(self, name: str = "chat", tokens: int = 5, **how: Any) -> Outcome:
        events = [e async for e in self.client.generate(prompt="hello", model=name, max_tokens=tokens, **how)]
        outcome = events[-1]
        assert isinstance(outcome, Outcome)
        return outcome


@pytest.fixture
async def mesh(fresh_nats: EmbeddedNats, tmp_path: Path) -> AsyncIterator[Mesh]:
    router, gateway = free_ports(2)
    settings = {
        **QUICK,
        "nats.url": fresh_nats.url,
        "nats.member_ttl_s": 1.0,
        "router.port": router,
        "gateway.port": gateway,
        "worker.router": f"127.0.0.1:{router}",
        "worker.models": "",
        "placement.grace_s": 0.5,
        "placement.residency_s": 0.5,
        "store.min_free_bytes": 0,
    }
    async with AsyncExitStack() as stack:
        own = await nats.connect(
            fresh_nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=_quiet
        )
        stack.push_async_callback(own.close)
        loaded = load_settings({**settings, "models": tmp_path / "router"}, environ={})
        await ensure_layout(own, loaded)
        await stack.enter_async_context(running(router_app.run, loaded))
        await stack.enter_async_context(running(gateway_app.run, loaded))
        client = await stack.enter_async_context(HeadraceClient(f"127.0.0.1:{gateway}"))
        mesh = Mesh(own, client, ModelStore(tmp_path / "operator"), tmp_path, settings, fresh_nats)
        try:
            yield mesh
        finally:
            for name in list(mesh.workers):
                await mesh.stop_worker(name)
    if mesh.server is not fresh_nats:
        mesh.server.stop()


async def test_a_model_goes_from_one_store_to_all_and_answers(mesh: Mesh) -> None:
    """Pushed and deployed, it is fetched by worker and router, which have no other way in, and asked for; undeployed it
    is refused as any unknown one, and what it took is free.
    """
    await mesh.start_worker("w-1")
    model = mesh.model()
    await mesh.push(model)
    with pytest.raises(UnknownModel):
        await mesh.ask()
    await mesh.deploy("chat")
    (place,) = await mesh.ready("chat", model.manifest.version)
    assert (place.node, place.wanted) == ("w-1", True)
    assert (await mesh.ask()).kind is OutcomeKind.COMPLETED
    with pytest.raises(ModelInUse, match="undeploy"):
        await remove_from_bucket(mesh.nats, "chat")
    await undeploy(mesh.nats, "chat")
    assert await mesh.until(lambda seen: not seen) == []
    await mesh.listed("chat", is_there=False)
    with pytest.raises(UnknownModel):
        await mesh.ask()
    assert await remove_from_bucket(mesh.nats, "chat") == model.reference


async def test_a_request_for_a_model_that_loads_waits_with_its_time(mesh: Mesh) -> None:
    """It is taken at once, told how long the load should take, and answered when that is done."""
    model = mesh.model(timing={"load_s": 1.5})
    await mesh.push(model)
    await mesh.deploy("chat")
    await mesh.listed("chat")
    await mesh.start_worker("w-1")
    await mesh.until(lambda seen: any(p.state is ModelState.LOADING for p in seen))
    waiting = asyncio.create_task(mesh.ask())
    async with asyncio.timeout(LIMIT_S):
        while (wait_s := await mesh.told_to_wait()) is None:
            assert not waiting.done(), "the gateway hears of the loading while that goes on"
    assert 0 <= wait_s <= 60
    outcome = await waiting
    assert outcome.kind is OutcomeKind.COMPLETED
    assert outcome.usage.queue_s > 0.2


async def test_a_running_request_stays_on_its_version(mesh: Mesh) -> None:
    """Deployed again in a new version: what runs ends undisturbed on the old one, what comes meanwhile runs on the new
    one, nothing fails, and then the old one is gone.
    """
    await mesh.start_worker("w-1")
    old, new = mesh.model(step_s=0.05), mesh.model(step_s=0.001)
    await mesh.push(old)
    await mesh.push(new)
    await mesh.deploy("chat")  # the one that was pushed last
    await mesh.ready("chat", new.manifest.version)
    await mesh.push(old)
    await mesh.deploy("chat")
    await mesh.ready("chat", old.manifest.version)
    slow = asyncio.create_task(mesh.ask(tokens=60))
    async with asyncio.timeout(LIMIT_S):
        async for event in mesh.client.generate(prompt="other", model="chat", max_tokens=5):
            if isinstance(event, TokenChunk):
                break
    await mesh.push(new)
    await mesh.deploy("chat")
    await mesh.ready("chat", new.manifest.version)
    assert not slow.done(), "it takes 3 s on the old version"
    quick = await asyncio.gather(*(mesh.ask() for _ in range(4)))
    assert not slow.done(), "and the new one does not wait for it"
    assert {outcome.kind for outcome in quick} == {OutcomeKind.COMPLETED}
    outcome = await slow
    assert (outcome.kind, outcome.usage.output_tokens, outcome.usage.attempts) == (
        OutcomeKind.COMPLETED,
        60,
        1,
    )


async def test_unloading_waits_for_what_runs(mesh: Mesh) -> None:
    """Undeployed, a model takes nothing new, and what runs on it comes to its end."""
    await mesh.start_worker("w-1")
    model = mesh.model(step_s=0.03)
    await mesh.push(model)
    await mesh.deploy("chat")
    await mesh.ready("chat", model.manifest.version)
    begun = asyncio.Event()

    async def ask() -> Outcome:
        async for event in mesh.client.generate(prompt="hello", model="chat", max_tokens=60):
            if isinstance(event, TokenChunk):
                begun.set()
            last = event
        assert isinstance(last, Outcome)
        return last

    asking = asyncio.create_task(ask())
    async with asyncio.timeout(LIMIT_S):
        await begun.wait()
    await undeploy(mesh.nats, "chat")
    await mesh.until(lambda seen: [p.state for p in seen] == [ModelState.LEAVING])
    outcome = await asking
    assert (outcome.kind, outcome.usage.output_tokens) == (OutcomeKind.COMPLETED, 60)
    await mesh.until(lambda seen: not seen)


async def test_labels_and_replicas_choose_the_nodes(mesh: Mesh) -> None:
    """On as many of the nodes with the label as were asked for; when one goes another takes over."""
    model = mesh.model()
    await mesh.push(model)
    for name, zone in (("a-1", "a"), ("b-1", "b"), ("b-2", "b")):
        await mesh.start_worker(name, **{"worker.labels": f"zone={zone}"})
    await mesh.deploy("chat", labels={"zone": "b"}, replicas=0)
    both = await mesh.ready("chat", model.manifest.version, nodes=2)
    assert {place.node for place in both} == {"b-1", "b-2"}
    await mesh.deploy("chat", labels={"zone": "b"}, replicas=1)
    (place,) = await mesh.ready("chat", model.manifest.version)
    await mesh.stop_worker(place.node)
    other = {"b-1": "b-2", "b-2": "b-1"}[place.node]
    await mesh.until(lambda seen: any(p.node == other and p.state is ModelState.READY for p in seen))
    assert (await mesh.ask()).kind is OutcomeKind.COMPLETED
    await mesh.deploy("chat", labels={"zone": "c"})
    await mesh.until(lambda seen: [p.reason for p in seen] == ["no node has zone=c"])


async def test_a_node_with_too_little_memory_refuses_before_it_loads(mesh: Mesh) -> None:
    """The placing router does not give it the model; a worker that was given one all the same says both numbers."""
    model = mesh.model()
    await mesh.push(model)
    await mesh.start_worker("w-1", **{"worker.memory_bytes": 1000})
    await mesh.deploy("chat")
    (place,) = await mesh.until(lambda seen: bool(seen and "largest node" in seen[0].reason))
    assert place.node == ""


async def test_a_damaged_object_is_never_served(mesh: Mesh) -> None:
    """The node says what is wrong; when it was pushed anew it serves it."""
    model = mesh.model()
    await mesh.push(model)
    bucket = FilesBucket(mesh.nats)
    entry = model.manifest.files["tokenizer.json"]
    await bucket.purge(f"$O.headrace_files.C.{entry.sha256}")
    await mesh.start_worker("w-1")
    await mesh.deploy("chat")
    seen = await mesh.until(lambda seen: any(p.state is ModelState.FAILED for p in seen))
    assert seen[0].model is not None
    assert "damaged: tokenizer.json" in seen[0].model.problem
    await push(bucket, model, force=True)
    await mesh.ready("chat", model.manifest.version)


async def test_what_is_wanted_survives_its_router_and_worker(mesh: Mesh) -> None:
    """A worker that comes back under its name has its models again, without a fetch: they are in its store."""
    model = mesh.model()
    await mesh.push(model)
    store = await mesh.start_worker("w-1")
    await mesh.deploy("chat")
    await mesh.ready("chat", model.manifest.version)
    assert [found.reference for found in store.versions()] == [model.reference]
    assert list(store.names()) == [], "no name means it: without a wish it is not served"
    await mesh.stop_worker("w-1")
    await FilesBucket(mesh.nats).purge("$O.headrace_files.C.>")
    await mesh.start_worker("w-1")
    await mesh.ready("chat", model.manifest.version)
    await mesh.listed("chat")
    assert (await mesh.ask()).kind is OutcomeKind.COMPLETED


async def test_a_name_changes_only_to_a_version_of_the_same_words(mesh: Mesh) -> None:
    """What waits was tokenised for the old one: another context length is refused, with the way that there is."""
    old = mesh.model()
    await mesh.push(old)
    await mesh.deploy("chat")
    new = mesh.model(context_length=77, step_s=0.002)
    await mesh.push(new)
    with pytest.raises(InvalidRequest, match="beside it"):
        await mesh.deploy("chat")
    await mesh.deploy(f"chat@{new.manifest.version[:8]}")
    with pytest.raises(ModelNotFound, match="is neither pushed"):
        await mesh.deploy("nobody")
    with pytest.raises(ModelNotFound, match=f"chat, chat@{new.manifest.version}"):
        await undeploy(mesh.nats, "nobody")


async def test_where_memory_is_short_what_is_asked_for_takes_the_place(mesh: Mesh) -> None:
    """Of two models that do not fit together the first stays, idle, until so much waits for the second that the swap
    pays; what waited is answered then, and nothing failed.
    """
    idle, asked = mesh.model("idle"), mesh.model("asked")
    for model in (idle, asked):
        await mesh.push(model)
    await mesh.start_worker("w-1", **{"worker.memory_bytes": round(1.5 * asked.manifest.size)})
    await mesh.deploy("idle")
    await mesh.ready("idle", idle.manifest.version)
    await mesh.deploy("asked")
    await mesh.until(lambda seen: any(p.reference == "asked" and "waits for room" in p.reason for p in seen))
    await mesh.listed("asked")
    waiting = [asyncio.create_task(mesh.ask("asked")) for _ in range(3)]
    await mesh.ready("asked", asked.manifest.version)
    outcomes = await asyncio.gather(*waiting)
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.COMPLETED}
    await mesh.until(lambda seen: any(p.reference == "idle" and "waits for room" in p.reason for p in seen))


async def test_the_desired_state_outlives_a_restart_of_the_broker(mesh: Mesh) -> None:
    """What was asked for while a worker's connection was away is found when it is back."""
    model = mesh.model()
    await mesh.push(model)
    await mesh.start_worker("w-1")
    await mesh.deploy("chat")
    await mesh.ready("chat", model.manifest.version)
    await mesh.restart_nats()
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                assert (await mesh.ask()).kind is OutcomeKind.COMPLETED
                break
            except Unavailable:  # the gateway is still to find it
                await asyncio.sleep(0.05)
    await undeploy(mesh.nats, "chat")
    await mesh.until(lambda seen: not seen)
