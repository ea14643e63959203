"""One reference of the desired state on a worker: its states, failures and changes of mind."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import suppress
from typing import Any

import pytest

from headrace.contract.deployments import Assignment, ModelState
from headrace.contract.errors import HeadraceError
from headrace.contract.work import ServedModel
from headrace.models.errors import NotEnoughMemory
from headrace.worker import tenant as tenant_module
from headrace.worker.tenant import Loaded, Progress, Tenant

ONE = Assignment(reference="m", version="0" * 12, since_s=1.0)
TWO = dataclasses.replace(ONE, version="1" * 12)


@dataclasses.dataclass
class Model:
    """As much of a loaded model as a tenant looks at."""

    served: ServedModel


class Hands:
    """A bringer and a roster that keep what they did; a test holds them up or has them fail."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.failures: list[HeadraceError] = []
        self.fetch_on = asyncio.Event()
        self.fetch_on.set()
        self.told = asyncio.Event()

    async def fetch(self, assignment: Assignment, progress: Progress) -> Any:
        self.did.append(f"fetch {assignment.version[0]}")
        await self.fetch_on.wait()
        return object()

    async def load(self, assignment: Assignment, stored: Any, progress: Progress) -> Loaded:
        if self.failures:
            raise self.failures.pop(0)
        self.did.append(f"load {assignment.version[0]}")
        served = ServedModel(name=assignment.reference, version=assignment.version, compute_type="none")
        model: Any = Model(served)
        use: Any = None
        return Loaded(assignment=assignment, model=model, use=use, memory_bytes=7)

    async def unload(self, loaded: Loaded) -> None:
        self.did.append(f"unload {loaded.assignment.version[0]}")

    async def come(self, model: Any) -> None:
        self.did.append(f"serve {model.served.version[0]}")

    async def go(self, reference: str) -> None:
        self.did.append("withdraw")

    async def unused(self, model: Any) -> None:
        pass


class Case:
    """A tenant that runs."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands
        roster: Any = hands
        self.tenant = Tenant("m", hands, roster, changed=hands.told.set)
        self.task: asyncio.Task[None] | None = None

    def want(self, assignment: Assignment | None) -> None:
        self.tenant.want(assignment)
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self.tenant.run())

    async def until(self, state: ModelState) -> None:
        async with asyncio.timeout(5):
            while self.tenant.progress.state is not state:
                self.hands.told.clear()
                await self.hands.told.wait()

    async def served(self, assignment: Assignment) -> None:
        async with asyncio.timeout(5):
            while self.tenant.loaded is None or self.tenant.loaded.assignment != assignment:
                self.hands.told.clear()
                await self.hands.told.wait()

    async def end(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
        await self.tenant.close()


async def test_it_comes_and_goes() -> None:
    """Fetched, loaded, served; and when it is not wanted any more withdrawn, and unloaded last."""
    case = Case(Hands())
    case.want(ONE)
    await case.until(ModelState.READY)
    case.want(dataclasses.replace(ONE, since_s=9.0))  # the same, asked for again
    case.want(None)
    assert case.task is not None
    await case.task
    assert case.hands.did == ["fetch 0", "load 0", "serve 0", "withdraw", "unload 0"]


async def test_a_new_version_is_served_before_the_old_one_goes() -> None:
    """At no moment is none of them served."""
    case = Case(Hands())
    case.want(ONE)
    await case.until(ModelState.READY)
    case.want(TWO)
    await case.served(TWO)
    await case.end()
    assert case.hands.did[3:] == ["fetch 1", "load 1", "serve 1", "unload 0", "unload 1"]


async def test_what_failed_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason stands in its state; the next try may do it. What was served before stays meanwhile."""
    monkeypatch.setattr(tenant_module, "RETRY_S", (0.001, 0.001))
    case = Case(Hands())
    case.want(ONE)
    await case.until(ModelState.READY)
    case.hands.failures = [NotEnoughMemory("m", 2_000_000, 1_000_000, "give it more")]
    case.want(TWO)
    await case.until(ModelState.FAILED)
    assert "2 MB of memory here, and 1 MB are free" in case.tenant.progress.problem
    assert case.tenant.loaded is not None
    await case.served(TWO)
    await case.end()


async def test_a_change_of_mind_ends_what_is_being_brought() -> None:
    """A fetch of what nobody wants any more is given up at once, and is no failure."""
    case = Case(Hands())
    case.hands.fetch_on.clear()
    case.want(ONE)
    await case.until(ModelState.FETCHING)
    case.want(TWO)
    async with asyncio.timeout(5):
        while "fetch 1" not in case.hands.did:  # noqa: ASYNC110 — it tells nobody of that
            await asyncio.sleep(0)
    case.hands.fetch_on.set()
    await case.served(TWO)
    assert case.tenant.progress.problem == ""
    await case.end()
    assert "load 0" not in case.hands.did
