"""One run: the mesh, the load, the blows, the end, the check."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.chaos.blows import Blows
from tests.chaos.census import Census
from tests.chaos.checker import Checker, Violation
from tests.chaos.doors import Door
from tests.chaos.durable import read_durable, wait_empty
from tests.chaos.grpc_clients import GrpcClients
from tests.chaos.leftovers import grown, left_behind, left_over, oldest
from tests.chaos.load import SETTLE_S, Load
from tests.chaos.mesh import Mesh
from tests.chaos.nats_clients import NatsClients, connect
from tests.chaos.options import Options
from tests.chaos.oracle import Oracle, fake_continuation, measured_continuation
from tests.chaos.report import Report, make_report
from tests.chaos.schedule import GATEWAYS, NATS, ROUTERS, WORKERS
from tests.chaos.seen import Seen
from tests.chaos.stalls import longest_pauses
from tests.chaos.timeline import timeline

LANES = "24"
"""Of each fake worker: enough for the clients of a router with its other worker down, so that a stall is no wait for a
lane.
"""
CONTEXT_LENGTH = 131_072
"""Of the fake model: room for prompts that are larger than a message."""
TOLD = 5
"""Timelines shown."""


class Run:
    """One run in `folder`, which must be empty. Its logs stay there."""

    def __init__(self, options: Options, folder: Path, tell: Callable[[str], None]) -> None:
        self._options = options
        self._folder = folder
        self._tell = tell
        self._load = Load(options, tell)
        self._offset_s = time.time() - time.monotonic()

    async def run(self) -> Report:
        """Runs it. Everything that was started is gone afterwards."""
        options = self._options
        store = self._store()
        environment = {"HEADRACE_WORKER_LANES": LANES if options.fake else "2"}
        if not options.fake:
            environment |= {"HEADRACE_WORKER_COMPUTE_TYPE": "float32", "HEADRACE_SCHEDULE_MAX_SKEW": "0"}
        environment |= {"HEADRACE_WORKER_MODELS": options.model}
        began_s = time.monotonic()
        async with AsyncExitStack() as stack:
            mesh = await stack.enter_async_context(
                Mesh(self._folder, models=store.root, environment=environment)
            )
            self._tell(f"the mesh serves after {time.monotonic() - began_s:.1f} s")
            doors = [
                await stack.enter_async_context(Door(name, mesh.address(name), options.model))
                for name in GATEWAYS
            ]
            connection = await connect(mesh.nats_url)
            oracle = await self._oracle(store, doors[0])
            census, blows = Census(mesh), Blows(mesh)
            counting = asyncio.create_task(census.run(), name="census")
            grpc, raw = GrpcClients(doors), NatsClients(connection, options.model)
            await self._load.run(grpc, raw, blows)
            empty = await wait_empty(connection, SETTLE_S)
            counting.cancel()
            census.look()
            durable = await read_durable(connection)
            await connection.close()  # while the broker is there: without one, the library may wait for ever
            await self._end(mesh)
        self._tell("the mesh has drained; checking")
        violations = Checker(oracle, durable, blows.struck).check(self._load.seen)
        violations += left_over(durable, empty=empty) + grown(census.sizes.values(), mesh)
        violations += [Violation(promise="process", what=problem) for problem in mesh.problems]
        violations += left_behind(mesh)
        return make_report(
            command=options.command,
            seconds=time.monotonic() - self._load.start_s,
            struck=blows.struck,
            all_seen=self._load.seen,
            durable=durable,
            violations=violations,
            sizes=oldest(census.sizes.values()),
            notes=self._notes(violations, blows),
        )

    def _store(self) -> ModelStore:
        if not self._options.fake:
            assert self._options.models is not None, "the real model's store is known"
            return ModelStore(self._options.models)
        store = ModelStore(self._folder / "models")
        timing = FakeTiming(step_s=self._options.step_s)
        install_fake_model(store, context_length=CONTEXT_LENGTH, timing=timing)
        return store

    async def _oracle(self, store: ModelStore, door: Door) -> Oracle:
        model = self._options.model
        if self._options.fake:
            return Oracle(store, model, fake_continuation(store, model))
        prompts = self._options.prompts
        known = await measured_continuation(door.client, model, prompts.fixed, prompts.tokens[1])
        return Oracle(store, model, known)

    async def _end(self, mesh: Mesh) -> None:
        """Everything drains, whoever is asked before those that ask."""
        for names in (GATEWAYS, WORKERS, ROUTERS, (NATS,)):
            await asyncio.gather(*(mesh.drain(name) for name in names))

    def _notes(self, violations: Sequence[Violation], blows: Blows) -> list[str]:
        notes = [
            f"\nstood still for {pause_s:.2f} s: {seen.asked.name}, {seen.asked.priority}\n"
            + self._timeline(seen, blows)
            for pause_s, seen in longest_pauses(self._load.seen, self._options.slowest)
        ]
        if not violations:
            return notes
        notes += [f"replay: {self._options.command}", *(str(violation) for violation in violations[:30])]
        shown = itertools.islice((v for v in violations if v.seen is not None), TOLD)
        for violation in shown:
            assert violation.seen is not None
            asked = violation.seen.asked
            notes.append(
                f"\n{violation}\n  request {asked.request_id}, {asked.way.value}, {asked.max_tokens} tokens\n"
                + self._timeline(violation.seen, blows)
            )
        return notes

    def _timeline(self, seen: Seen, blows: Blows) -> str:
        return timeline(seen, blows.struck, self._folder, self._offset_s, self._load.start_s)
