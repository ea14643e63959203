"""Canaries that do worse are rolled back without a word from anybody: real processes, with fake models that are bad."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.rollout import AliasState
from headrace.contract.values import Outcome, OutcomeKind
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.cli.running import run
from tests.integration.processes import Processes

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

OLD, BROKEN, SLOW = "old", "broken", "slow"
OBJECTIVE_S = 0.4
PROMPT = "hello"
TIMINGS = {
    OLD: FakeTiming(step_s=0.002),
    BROKEN: FakeTiming(step_s=0.002, failing=0.5),
    SLOW: FakeTiming(step_s=0.002, prefill_s_per_token=2 * OBJECTIVE_S / (len(PROMPT) - 1)),
}
SETTINGS = {
    "HEADRACE_ROLLOUT_MIN_REQUESTS": "4",
    "HEADRACE_ROLLOUT_CHECK_EVERY": "1",
    "HEADRACE_ROLLOUT_CHECKS": "2",
    "HEADRACE_ROLLOUT_MEMORY": "100",
    "HEADRACE_ROLLOUT_FIRST_TOKEN_S": str(OBJECTIVE_S),
    # Each other batch fails, whosesoever it is: chance alone decides how often one request meets that.
    "HEADRACE_ROUTER_MAX_ATTEMPTS": "50",
    "HEADRACE_WORKER_MODELS": ",".join(TIMINGS),
    "HEADRACE_WORKER_LANES": "4",
    "HEADRACE_WORKER_MAX_BATCH": "1",
}
LIMIT_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Processes]:
    """One worker serves all three."""
    folder: Path = tmp_path_factory.mktemp("mesh")
    for name, timing in TIMINGS.items():
        install_fake_model(ModelStore(folder / "models"), name, timing=timing)
    async with Processes(folder, models=folder / "models", environment=SETTINGS) as running:
        yield running


async def rolled_back(mesh: Processes, alias: str, canary: str) -> tuple[AliasState, list[Outcome]]:
    """Asks until the canary is gone; the alias then, and all that was answered."""
    seen: list[Outcome] = []
    async with HeadraceClient(mesh.address) as client, AdminClient(mesh.address) as admin:
        await admin.set_alias(alias, OLD)
        await admin.canary(alias, canary, share=0.5)
        async with asyncio.timeout(LIMIT_S):
            while True:
                asked = (client.complete(model=alias, prompt=PROMPT, max_tokens=2) for _ in range(4))
                seen += await asyncio.gather(*asked)
                (state,) = (each for each in await admin.aliases() if each.alias.name == alias)
                if not state.alias.canary:
                    return state, seen


async def test_a_canary_that_fails_and_one_that_is_late_are_rolled_back(mesh: Processes) -> None:
    """Each by its own fault, with the reason in the alias, in the list of aliases and in the router's log; no request
    failed, and from then on the stable version answers.
    """
    (broken, seen), (slow, seen_too) = await asyncio.gather(
        rolled_back(mesh, "chat", BROKEN), rolled_back(mesh, "talk", SLOW)
    )
    assert {outcome.kind for outcome in seen + seen_too} == {OutcomeKind.COMPLETED}
    assert (broken.alias.stable, slow.alias.stable) == (OLD, OLD)
    assert broken.alias.note.startswith(f"{BROKEN} was rolled back: ")
    assert "of its requests fail or lose an attempt, 0% before" in broken.alias.note
    assert slow.alias.note.startswith(f"{SLOW} was rolled back: 100% of its requests are late")
    failed = {one.model: one.failed > 0 for state in (broken, slow) for one in state.counts.versions}
    assert failed == {OLD: False, BROKEN: True, SLOW: False}
    assert all(one.late == one.answered for one in slow.counts.versions if one.model == SLOW)

    listed = await asyncio.to_thread(run, "model", "alias", "list", "--address", mesh.address)
    assert broken.alias.note in listed.stdout
    assert slow.alias.note in listed.stdout
    told = [json.loads(line) for line in mesh.log("router").splitlines() if '"alias.rolled_back"' in line]
    assert {(one["alias"], one["version"]) for one in told} == {("chat", BROKEN), ("talk", SLOW)}
    assert all(one["reason"] and one["level"] == "warning" for one in told)

    async with HeadraceClient(mesh.address) as client:
        again = [await client.complete(model="chat", prompt=PROMPT, max_tokens=2) for _ in range(4)]
    assert {outcome.model for outcome in again} == {OLD}
