"""Requests of an alias that change routers or lose their version: where they go on, and what their outcome says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from headrace.contract.alias import Alias
from headrace.contract.values import OutcomeKind
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from headrace.runtime.alias_store import AliasStore
from tests.router.conftest import Mesh, a_request
from tests.router.peers import gateway, worker

pytestmark = pytest.mark.integration

ALIAS, NEW = "chat", "newer"


async def point(mesh: Mesh, stable: str) -> None:
    await AliasStore(mesh.nats.jetstream()).change(ALIAS, lambda _: Alias(name=ALIAS, stable=stable))


@pytest.fixture(autouse=True)
def newer(tmp_path: Path) -> None:
    """The routers' store holds it, too."""
    install_fake_model(ModelStore(tmp_path / "models"), NEW)


async def test_after_the_loss_of_its_router_a_request_goes_on_at_its_version(mesh: Mesh) -> None:
    """Though the alias stands for another one by now, which has lanes as well: its gateway knew the version."""
    first = await mesh.start_router("r-1")
    await point(mesh, "fake")
    second = await mesh.start_router("r-2", **{"rollout.version_wait_s": 10.0})
    new = replace(mesh.model, name=NEW)
    request = a_request(model=ALIAS, gateway="gw-1")
    async with gateway(first.address) as client, client.join(second.address):
        async with worker(first.address, mesh.model, worker_id="w-1", heartbeat_s=0.3) as hands:
            await mesh.publish(request)
            batch = await hands.batch()
            assert batch.model == "fake"
            await hands.make(batch.entries[0], "abc")
            await client.until_text(request.id, "abc")
            assert client.models[request.id] == "fake"
            await point(mesh, NEW)
            await first.kill()
        # That of the new version comes first: it is not taken for want of the other.
        async with (
            worker(second.address, new, worker_id="w-3", heartbeat_s=0.3),
            worker(second.address, mesh.model, worker_id="w-2", heartbeat_s=0.3) as hands,
        ):
            batch = await hands.batch()
            assert (batch.model, bytes(batch.entries[0].generated)) == ("fake", b"abc")
            await hands.finish(batch)
            outcome = await client.outcome(request.id)
    assert (outcome.model, outcome.earlier_models) == ("fake", ())


async def test_a_request_whose_version_is_gone_goes_on_at_another_and_says_so(mesh: Mesh) -> None:
    """Its only worker is lost in the middle, and the alias has another version of the same words."""
    router = await mesh.start_router("r-1")
    await point(mesh, "fake")
    request = a_request(model=ALIAS, gateway="gw-1")
    async with gateway(router.address) as client:
        async with worker(router.address, mesh.model, worker_id="w-1", heartbeat_s=0.3) as hands:
            await mesh.publish(request)
            batch = await hands.batch()
            await hands.make(batch.entries[0], "abc")
            await client.until_text(request.id, "abc")
        async with worker(router.address, replace(mesh.model, name=NEW), worker_id="w-2") as hands:
            await point(mesh, NEW)
            batch = await hands.batch()
            assert (batch.model, bytes(batch.entries[0].generated)) == (NEW, b"abc")
            await hands.make(batch.entries[0], "def")
            await hands.finish(batch)
            outcome = await client.outcome(request.id)
    assert client.text[request.id] == "abcdef"
    assert (outcome.kind, outcome.model) == (OutcomeKind.COMPLETED, NEW)
    assert (outcome.earlier_models, outcome.usage.resumptions) == (("fake",), 1)
    assert (await mesh.result(request)).earlier_models == ("fake",)


async def test_a_producer_on_nats_asks_for_an_alias_like_for_a_model(mesh: Mesh) -> None:
    """The subject carries the name that was asked for; the durable outcome names what answered."""
    router = await mesh.start_router("r-1")
    await point(mesh, "fake")
    request = a_request(model=ALIAS)
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish_json(f"hr.v1.req.{ALIAS}.normal.default", {"prompt": "one", "id": request.id})
        batch = await hands.batch()
        await hands.finish(batch)
        assert (await mesh.result(request)).model == "fake"


async def test_an_alias_that_is_taken_away_is_unknown(mesh: Mesh) -> None:
    """What asks for it afterwards is refused, with those that there are."""
    router = await mesh.start_router("r-1")
    await point(mesh, "fake")
    request = a_request(model=ALIAS)
    async with worker(router.address, mesh.model):
        await AliasStore(mesh.nats.jetstream()).remove(ALIAS)
        await mesh.publish(request)
        outcome = await mesh.result(request)
    assert outcome.kind is OutcomeKind.REJECTED
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.field) == ("UNKNOWN_MODEL", "model")
