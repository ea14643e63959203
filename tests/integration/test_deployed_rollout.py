"""Deployed versions side by side, and an alias that goes from one to the other."""

from __future__ import annotations

import asyncio

import pytest

from headrace.client.admin import AdminClient
from headrace.contract.values import OutcomeKind
from headrace.models.desired import undeploy
from tests.integration.test_deployments import Mesh, mesh

__all__ = ["mesh"]

pytestmark = pytest.mark.integration


async def test_an_alias_goes_from_one_deployed_version_to_the_next(mesh: Mesh) -> None:
    """Canary, promotion, and the old version undeployed, with requests all the while: none fails, each says which
    version answered, and at the end the new one answers all.
    """
    await mesh.start_worker("w-1")
    old, new = mesh.model(step_s=0.002), mesh.model(step_s=0.001)
    for model in (old, new):
        await mesh.push(model)
        await mesh.deploy(model.reference)
        await mesh.ready(model.reference, model.manifest.version)
    async with AdminClient(f"127.0.0.1:{mesh.settings['gateway.port']}") as admin:
        await admin.set_alias("talk", old.reference, fallbacks=(new.reference,))
        assert (await mesh.ask("talk")).model == old.reference
        await admin.canary("talk", new.reference, share=0.5)
        asked = [asyncio.create_task(mesh.ask("talk")) for _ in range(30)]
        await admin.promote("talk")
        asked += [asyncio.create_task(mesh.ask("talk")) for _ in range(10)]
        await undeploy(mesh.nats, old.reference)
        outcomes = await asyncio.gather(*asked)
        assert {outcome.kind for outcome in outcomes} == {OutcomeKind.COMPLETED}
        assert {outcome.model for outcome in outcomes} <= {old.reference, new.reference}
        await mesh.until(lambda seen: {place.reference for place in seen} == {new.reference})
        assert (await mesh.ask("talk")).model == new.reference
