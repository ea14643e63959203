"""One run: the mesh, the load, the blows, the end, the check."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.chaos.asked import Prompts, Way, requests_of
from tests.chaos.blows import Blows
from tests.chaos.census import SETTLED_S, Census, Size
from tests.chaos.checker import Checker, Violation
from tests.chaos.doors import Door
from tests.chaos.durable import Durable, read_durable, wait_empty
from tests.chaos.grpc_clients import GrpcClients
from tests.chaos.mesh import Mesh
from tests.chaos.nats_clients import NatsClients, connect
from tests.chaos.oracle import Oracle, fake_continuation, measured_continuation
from tests.chaos.report import Report, make_report
from tests.chaos.schedule import GATEWAYS, NATS, ROUTERS, WORKERS, draw_schedule
from tests.chaos.seen import Seen
from tests.chaos.stalls import longest_pauses
from tests.chaos.timeline import timeline

MIX = (
    (Way.STREAM, 0.34),
    (Way.NATS, 0.2),
    (Way.SUBMIT, 0.14),
    (Way.CANCEL, 0.1),
    (Way.DEADLINE, 0.1),
    (Way.SLOW, 0.06),
    (Way.HANG_UP, 0.06),
)
"""The clients' shares."""
SETTLE_S = 45.0
"""How long after the load everything gets to end: the longest waits of all parts, one after the other, and a little."""
MORE_FILES = 40
"""Open files that a process may have more at the end, when only its peers are connected, than when it was young."""
LANES = "10"
"""Of each fake worker: enough for all clients with two workers down, so that a stall is no wait for a lane."""
TOLD = 5
"""Timelines shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is made of."""

    seed: int
    duration_s: float
    every_s: float
    clients: int = 28
    think_s: float = 0.5
    poison_odds: float = 0.01
    model: str = "fake"
    models: Path | None = None
    """The store that has the real model."""
    step_s: float = 0.03
    slowest: int = 0
    """Of how many of the streams that stood still longest the timelines are told."""

    @property
    def command(self) -> str:
        """Replays the run's schedule and requests."""
        return (
            f".venv/bin/python -m tests.chaos --seed {self.seed} --duration {self.duration_s:g} "
            f"--every {self.every_s:g} --clients {self.clients} --model {self.model}"
        )


class Run:
    """One run in `folder`, which must be empty. Its logs stay there."""

    def __init__(self, options: Options, folder: Path, tell: Callable[[str], None]) -> None:
        self._options = options
        self._folder = folder
        self._tell = tell
        self._seen: list[Seen] = []
        self._asking = asyncio.Event()
        self._asking.set()
        self._start_s = 0.0
        self._offset_s = time.time() - time.monotonic()
        self._prompts = Prompts() if options.model == "fake" else REAL_PROMPTS

    async def run(self) -> Report:
        """Runs it. Everything that was started is gone afterwards."""
        options = self._options
        store = self._store()
        environment = {"HEADRACE_WORKER_LANES": LANES if options.model == "fake" else "1"}
        if options.model != "fake":
            environment |= {"HEADRACE_WORKER_COMPUTE_TYPE": "float32"}
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
            stack.push_async_callback(connection.close)
            oracle = await self._oracle(store, doors[0])
            census, blows = Census(mesh), Blows(mesh)
            counting = asyncio.create_task(census.run(), name="census")
            grpc, raw = GrpcClients(doors), NatsClients(connection, options.model)
            await self._load(grpc, raw, blows)
            empty = await wait_empty(connection, SETTLE_S)
            counting.cancel()
            census.look()
            durable = await read_durable(connection)
            checker = Checker(oracle, durable, blows.struck)
            violations = checker.check(self._seen)
            violations += _left_over(durable, empty) + _grown(census.sizes.values(), mesh)
            await self._end(mesh)
        violations += [Violation(promise="process", what=problem) for problem in mesh.problems]
        violations += _left_behind(mesh)
        return make_report(
            command=options.command,
            seconds=time.monotonic() - self._start_s,
            struck=blows.struck,
            all_seen=self._seen,
            durable=durable,
            violations=violations,
            sizes=_oldest(census.sizes.values()),
            notes=self._notes(violations, blows),
        )

    def _store(self) -> ModelStore:
        if self._options.model != "fake":
            assert self._options.models is not None, "the real model's store is known"
            return ModelStore(self._options.models)
        store = ModelStore(self._folder / "models")
        install_fake_model(store, timing=FakeTiming(step_s=self._options.step_s))
        return store

    async def _oracle(self, store: ModelStore, door: Door) -> Oracle:
        model = self._options.model
        if model == "fake":
            return Oracle(store, model, fake_continuation(store, model))
        known = await measured_continuation(door.client, model, self._prompts.fixed, self._prompts.tokens[1])
        return Oracle(store, model, known)

    async def _load(self, grpc: GrpcClients, raw: NatsClients, blows: Blows) -> None:
        """The load and the blows at once; then the time that everything has to end."""
        options = self._options
        schedule = draw_schedule(
            random.Random(options.seed), duration_s=options.duration_s, every_s=options.every_s
        )
        self._start_s = time.monotonic()
        clients = [
            asyncio.create_task(self._client(name, way, (raw if way is Way.NATS else grpc).ask), name=name)
            for name, way in _clients(options.clients)
        ]
        ticker = asyncio.create_task(self._tick(), name="ticker")
        await blows.deal(schedule, self._start_s)
        await asyncio.sleep(self._start_s + options.duration_s - time.monotonic())
        self._asking.clear()
        grpc.until_s = raw.until_s = time.monotonic() + SETTLE_S
        self._tell("the load ends; waiting for what was asked")
        _, left = await asyncio.wait(clients, timeout=SETTLE_S + 10)
        ticker.cancel()
        for client in left:
            client.cancel()
        for client in clients:
            if client.done() and not client.cancelled():
                client.result()

    async def _client(self, name: str, way: Way, ask: Callable[[Seen], Awaitable[None]]) -> None:
        options = self._options
        requests = requests_of(
            options.seed,
            name,
            way,
            self._prompts,
            poison_odds=options.poison_odds if options.model == "fake" else 0.0,
            think_s=options.think_s,
        )
        for asked in requests:
            await asyncio.sleep(asked.think_s)
            if not self._asking.is_set():
                return
            seen = Seen(asked)
            self._seen.append(seen)
            await ask(seen)
            seen.ended_s = time.monotonic()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(10)
            under_way = sum(not seen.ended_s for seen in self._seen)
            self._tell(
                f"{time.monotonic() - self._start_s:6.0f} s  {len(self._seen)} requests, {under_way} under way"
            )

    async def _end(self, mesh: Mesh) -> None:
        """Everything drains, whoever is asked before those that ask."""
        for names in (GATEWAYS, WORKERS, ROUTERS, (NATS,)):
            await asyncio.gather(*(mesh.drain(name) for name in names))

    def _notes(self, violations: Sequence[Violation], blows: Blows) -> list[str]:
        notes = [
            f"\nstood still for {pause_s:.2f} s: {seen.asked.name}, {seen.asked.priority}\n"
            + self._timeline(seen, blows)
            for pause_s, seen in longest_pauses(self._seen, self._options.slowest)
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
        return timeline(seen, blows.struck, self._folder, self._offset_s, self._start_s)


REAL_PROMPTS = Prompts(
    fixed=(
        "Once upon a time",
        "The capital of France is",
        "The quick brown fox",
        "In 1969, the first",
        "Water boils at",
        "My favourite colour is",
    ),
    tokens=(6, 48),
)


def _clients(count: int) -> list[tuple[str, Way]]:
    """Names and ways, in the shares of the mix; at least one of each."""
    out = []
    for way, share in MIX:
        out += [(f"{way.value} {number}", way) for number in range(max(1, round(share * count)))]
    return out


def _left_over(durable: Durable, empty: bool) -> list[Violation]:
    if empty:
        return []
    what = f"{durable.left} messages and {durable.pending} deliveries at the end"
    return [Violation(promise="queues", what=what)]


def _grown(sizes: Iterable[Size], mesh: Mesh) -> list[Violation]:
    """Open files of the processes that live at the end."""
    out = []
    for size in sizes:
        if size.number == mesh.lives[size.name].number and size.age_s > 2 * SETTLED_S:
            more = size.last_files - size.first_files
            if more > MORE_FILES:
                out.append(Violation(promise="files", what=f"{size.name} has {more} more open than young"))
    return out


def _oldest(sizes: Iterable[Size]) -> list[Size]:
    """The longest life of each process."""
    oldest: dict[str, Size] = {}
    for size in sizes:
        if size.name not in oldest or size.age_s > oldest[size.name].age_s:
            oldest[size.name] = size
    return [oldest[name] for name in sorted(oldest)]


def _left_behind(mesh: Mesh) -> list[Violation]:
    """Processes and temporary files."""
    out = []
    mine = {life.pid for life in mesh.lives.values()}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if child.pid in mine or str(mesh.folder) in " ".join(child.cmdline()):
                out.append(Violation(promise="process", what=f"process {child.pid} is left"))
    for path in mesh.temporary.rglob("*"):
        out.append(Violation(promise="files", what=f"a temporary file is left: {path.name}"))
    return out
