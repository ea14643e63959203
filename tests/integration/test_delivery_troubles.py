"""A delivery that goes wrong in a mesh that serves: it is said where, nothing else suffers, and it heals by itself."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.contract.deployments import ModelState
from headrace.contract.values import OutcomeKind
from headrace.models import fetch as fetch_module
from headrace.models.desired import Place, undeploy
from headrace.models.errors import ModelInUse
from headrace.models.room import remove_unused
from headrace.models.store import ModelStore
from headrace.worker import tenant as tenant_module
from tests.cli.running import run
from tests.integration.test_deployments import Mesh, mesh

__all__ = ["mesh"]

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Of a disk."""

    free: int


def failed(reference: str, why: str) -> Any:
    """Whether a node has failed with a model, and says so."""

    def holds(seen: list[Place]) -> bool:
        return any(
            place.reference == reference
            and place.model is not None
            and place.model.state is ModelState.FAILED
            and why in place.model.problem
            for place in seen
        )

    return holds


async def test_a_full_disk_fails_one_delivery_and_no_request(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up in the middle of a fetch: the node says so, keeps nothing of it and serves what it has; when
    there is room it fetches it by itself.
    """
    monkeypatch.setattr(tenant_module, "RETRY_S", (0.1, 0.2))
    here, coming = mesh.model("here"), mesh.model("coming")
    for model in (here, coming):
        await mesh.push(model)
    store = await mesh.start_worker("w-1")
    await mesh.deploy("here")
    await mesh.ready("here", here.manifest.version)
    written = fetch_module._Part.note

    def full(part: Any, size: int, number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch_module._Part, "note", full)
    await mesh.deploy("coming")
    await mesh.until(failed("coming", "the disk is full"))
    assert (await mesh.ask("here")).kind is OutcomeKind.COMPLETED
    assert [model.name for model in store.versions()] == ["here"]
    monkeypatch.setattr(fetch_module._Part, "note", written)
    await mesh.ready("coming", coming.manifest.version)
    assert (await mesh.ask("coming")).kind is OutcomeKind.COMPLETED


async def test_a_disk_for_one_version_gets_the_next_when_that_may_go(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wanted stays, and the second version is refused before it is fetched. When the first is undeployed it
    goes, and the second comes.
    """
    monkeypatch.setattr(tenant_module, "RETRY_S", (0.1, 0.2))
    first, second = mesh.model("first"), mesh.model("second")
    for model in (first, second):
        await mesh.push(model)
    store = await mesh.start_worker("w-1")

    def small_disk(folder: Path) -> Usage:
        """Of one version and a half, for the worker's store alone."""
        most = round(1.5 * first.manifest.size) if folder == store.root else 1 << 30
        return Usage(free=most - sum(model.manifest.size for model in ModelStore(folder).versions()))

    monkeypatch.setattr(shutil, "disk_usage", small_disk)
    await mesh.deploy("first")
    await mesh.ready("first", first.manifest.version)
    await mesh.deploy("second")
    await mesh.until(failed("second", "in use, wanted, or has a name"))
    assert (await mesh.ask("first")).kind is OutcomeKind.COMPLETED
    await undeploy(mesh.nats, "first")
    await mesh.ready("second", second.manifest.version)
    assert [model.name for model in store.versions()] == ["second"]


async def test_a_version_that_is_in_use_is_not_deleted_and_its_loss_is_made_good(mesh: Mesh) -> None:
    """Removing it is refused while a worker has it loaded. Its files deleted by force, what runs and what comes is
    answered all the same, and the worker that starts again fetches it anew.
    """
    model = mesh.model(step_s=0.02)
    await mesh.push(model)
    store = await mesh.start_worker("w-1")
    await mesh.deploy("chat")
    await mesh.ready("chat", model.manifest.version)
    with pytest.raises(ModelInUse, match="undeploy it"):
        remove_unused(store, store.open(model.reference))
    done = await asyncio.to_thread(run, "model", "remove", model.reference, "--models", str(store.root))
    assert done.returncode == 1
    assert "a worker on this machine has it loaded" in done.stderr
    assert store.open(model.reference).path.exists()

    running = asyncio.create_task(mesh.ask(tokens=40))
    shutil.rmtree(store.open(model.reference).path)
    assert (await mesh.ask()).kind is OutcomeKind.COMPLETED
    outcome = await running
    assert (outcome.kind, outcome.usage.output_tokens) == (OutcomeKind.COMPLETED, 40)
    assert store.versions() == []
    await mesh.stop_worker("w-1")
    await mesh.start_worker("w-1")
    await mesh.ready("chat", model.manifest.version)
    assert (await mesh.ask()).kind is OutcomeKind.COMPLETED
    assert [found.reference for found in store.versions()] == [model.reference]
