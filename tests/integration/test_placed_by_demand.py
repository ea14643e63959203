"""Where memory is short, what is asked for is placed: also what embeds, and what is asked for by an alias alone."""

from __future__ import annotations

import asyncio

import pytest

from headrace.client.admin import AdminClient
from headrace.contract.deployments import ModelState
from headrace.contract.values import Outcome, OutcomeKind
from tests.integration.local_mesh import LIMIT_S
from tests.integration.test_deployments import Mesh, mesh

__all__ = ["mesh"]

pytestmark = pytest.mark.integration


async def test_what_an_alias_asks_for_takes_the_place_of_what_is_idle(mesh: Mesh) -> None:
    """A model that embeds, and waits for room beside an idle one that generates, is asked for by an alias: it gets the
    place, all that waited is answered, and the idle one waits.
    """
    idle, vectors = mesh.model("idle"), mesh.model("vectors", task="embed")
    for model in (idle, vectors):
        await mesh.push(model)
    await mesh.start_worker("w-1", **{"worker.memory_bytes": round(1.5 * idle.manifest.size)})
    await mesh.deploy("idle")
    await mesh.ready("idle", idle.manifest.version)
    await mesh.deploy("vectors")
    await mesh.until(
        lambda seen: any(p.reference == "vectors" and "waits for room" in p.reason for p in seen)
    )
    await mesh.listed("vectors")
    async with AdminClient(f"127.0.0.1:{mesh.settings['gateway.port']}") as admin:
        await admin.set_alias("meaning", "vectors", force=True)
        waiting = [
            asyncio.create_task(mesh.client.embed(["A dog barks."], model="meaning")) for _ in range(5)
        ]
        await mesh.ready("vectors", vectors.manifest.version)
        async with asyncio.timeout(LIMIT_S):
            outcomes: list[Outcome] = await asyncio.gather(*waiting)
    assert {(outcome.kind, outcome.model) for outcome in outcomes} == {(OutcomeKind.COMPLETED, "vectors")}
    seen = await mesh.until(
        lambda seen: any(p.reference == "idle" and "waits for room" in p.reason for p in seen)
    )
    assert {p.reference for p in seen if p.state is ModelState.READY} == {"vectors"}
