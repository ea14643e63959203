"""`python -m tests.chaos.soak`: many streams at once, for long; no error, and memory and open files stay as they are.

Nothing is killed here. Each client asks again as soon as it is answered, so that as many streams are open at any time,
and as many begin as end: what the processes hold is then the same all the time, and whatever grows is a leak.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from headrace.contract.errors import HeadraceError
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.chaos.asked import Asked, Prompts, Way, new_id
from tests.chaos.doors import Door
from tests.chaos.growth import Growth, Growths
from tests.chaos.mesh import Mesh
from tests.chaos.oracle import Oracle, fake_continuation
from tests.chaos.reading import Reading
from tests.chaos.schedule import GATEWAYS, NATS, ROUTERS, WORKERS

MODEL = "fake"
LANES = 500
"""Of each worker, for a thousand streams: no stream waits for the end of another, whichever router has it."""
KEPT_S = "20"
"""How long results and ids are kept: else what the broker holds would grow for a day, as it is meant to."""
RAMP_S = 8.0
"""In which the streams begin, evenly."""
CHECKED = 20
"""Every so many-th answer is held against the undisturbed one."""
FIRST_S = 10.0
"""For a stream's first event. All streams that begin at once must get theirs within it."""


RECENT_BYTES = 1024 * 1024
"""Of spans that gateways remember: full within seconds, as it fills for minutes otherwise, up to its bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a soak is made of."""

    streams: int = 1000
    seconds: float = 300.0
    """From the end of the ramp."""
    step_s: float = 0.5
    tokens: tuple[int, int] = (40, 80)
    seed: int = 1


@dataclass(slots=True, kw_only=True)
class Found:
    """What a soak showed."""

    seconds: float = 0.0
    ended: int = 0
    tokens: int = 0
    least_open: int = 0
    """Streams that were open at once, at least, after the ramp."""
    least_flowing: int = 0
    """Of them had a token in the last steps, at least."""
    errors: Counter[str] = field(default_factory=Counter)
    growths: Sequence[Growth] = ()
    problems: Sequence[str] = ()
    """Ends of processes that nobody asked for."""

    def as_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "ended": self.ended,
            "tokens": self.tokens,
            "least_open": self.least_open,
            "least_flowing": self.least_flowing,
            "errors": dict(self.errors),
            "growths": [{**asdict(one), "share": one.share} for one in self.growths],
            "problems": list(self.problems),
        }


class Soak:
    """One soak in `folder`, which must be empty."""

    def __init__(self, plan: Plan, folder: Path, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._tell = tell
        self._found = Found()
        self._open: dict[int, float] = {}
        """When the last event of each open stream came, or it was asked for, by client."""
        self._store = ModelStore(folder / "models")
        install_fake_model(self._store, timing=FakeTiming(step_s=plan.step_s))
        self._oracle = Oracle(self._store, MODEL, fake_continuation(self._store, MODEL))

    async def run(self) -> Found:
        """Runs it. Everything that was started is gone afterwards."""
        environment = {
            "HEADRACE_WORKER_LANES": str(LANES * self._plan.streams // 1000),
            "HEADRACE_QUEUES_RESULT_MAX_AGE_S": KEPT_S,
            "HEADRACE_QUEUES_DUPLICATE_WINDOW_S": KEPT_S,
            "HEADRACE_TRACES_RECENT_MAX_BYTES": str(RECENT_BYTES),
            "HEADRACE_WORKER_MODELS": MODEL,
            "HEADRACE_GATEWAY_MAX_CONCURRENT_STREAMS": str(2 * self._plan.streams),
        }
        async with AsyncExitStack() as stack:
            mesh = await stack.enter_async_context(
                Mesh(self._folder, models=self._store.root, environment=environment, direct=True)
            )
            doors = [
                await stack.enter_async_context(Door(name, mesh.address(name), MODEL)) for name in GATEWAYS
            ]
            await self._hold(doors, mesh)
            for names in (GATEWAYS, WORKERS, ROUTERS, (NATS,)):
                await asyncio.gather(*(mesh.drain(name) for name in names))
            self._found.problems = list(mesh.problems)
        return self._found

    async def _hold(self, doors: Sequence[Door], mesh: Mesh) -> None:
        plan, found = self._plan, self._found
        began_s = time.monotonic()
        full_s = began_s + RAMP_S + plan.step_s * plan.tokens[1]
        until_s = began_s + RAMP_S + plan.seconds
        growths = Growths({name: life.pid for name, life in mesh.lives.items()})
        async with asyncio.TaskGroup() as group:
            for number in range(plan.streams):
                group.create_task(self._client(number, doors[number % len(doors)], began_s, until_s))
            found.least_open = found.least_flowing = plan.streams
            while (now_s := time.monotonic()) < until_s:
                growths.look()
                if now_s >= min(full_s, began_s + RAMP_S + plan.seconds / 5):
                    found.least_open = min(found.least_open, len(self._open))
                    found.least_flowing = min(found.least_flowing, self._flowing(now_s))
                if int(now_s - began_s) % 10 == 0:
                    self._tell_state(now_s - began_s)
                await asyncio.sleep(1.0)
            found.seconds = plan.seconds
            found.growths = growths.after(began_s + RAMP_S + plan.seconds / 5)
            self._tell("waiting for the last streams")

    def _flowing(self, now_s: float) -> int:
        return sum(now_s - last_s < 4 * self._plan.step_s for last_s in self._open.values())

    def _tell_state(self, at_s: float) -> None:
        found = self._found
        flowing = self._flowing(time.monotonic())
        self._tell(
            f"{at_s:6.0f} s  {len(self._open)} streams open, {flowing} of them flow; {found.ended} ended, "
            f"{found.tokens} tokens, {found.errors.total()} errors"
        )

    async def _client(self, number: int, door: Door, began_s: float, until_s: float) -> None:
        plan = self._plan
        rng = random.Random(f"{plan.seed} {number}")
        # The same each time, as words come again in real prompts: the tokeniser remembers thousands of new ones.
        prompt = Prompts(lengths=(32,)).draw(rng, commands="", oversize=False)
        await asyncio.sleep(RAMP_S * number / plan.streams)
        count = 0
        while time.monotonic() < until_s:
            count += 1
            asked = Asked(
                client=f"stream {number}",
                number=count,
                way=Way.STREAM,
                request_id=new_id(rng, count),
                prompt=prompt,
                max_tokens=rng.randint(*plan.tokens),
                ignore_end=True,
            )
            self._open[number] = time.monotonic()
            try:
                await self._stream(number, door, asked)
            except (HeadraceError, TimeoutError) as error:
                self._found.errors[f"{type(error).__name__}: {error}"[:200]] += 1
                await asyncio.sleep(1.0)
            finally:
                self._open.pop(number, None)

    async def _stream(self, number: int, door: Door, asked: Asked) -> None:
        reading, found = Reading(), self._found
        async with asyncio.timeout(FIRST_S) as patience:
            async for event in door.generate(asked):
                patience.reschedule(asyncio.get_running_loop().time() + FIRST_S + 4 * self._plan.step_s)
                self._open[number] = time.monotonic()
                if isinstance(event, TokenChunk):
                    reading.take(event)
                    found.tokens += len(event.token_ids)
                elif isinstance(event, Outcome):
                    reading.finish(event)
        found.ended += 1
        for fault in reading.faults:
            found.errors[fault] += 1
        ended = reading.finished
        if ended is None or ended.kind is not OutcomeKind.COMPLETED or reading.next_index != asked.max_tokens:
            found.errors["not complete"] += 1
        elif found.ended % CHECKED == 0 and tuple(reading.ids) != self._oracle.expect(asked).token_ids:
            found.errors["not the undisturbed answer"] += 1


def show(found: Found, console: Console) -> None:
    """The tables."""
    console.print(
        f"{found.ended} streams in {found.seconds:.0f} s, {found.tokens} tokens; at least {found.least_open} open at "
        f"once, {found.least_flowing} of them flowing; {found.errors.total()} errors"
    )
    table = Table("process", "MiB", "at the end", "MiB a minute", "growth", "files", "at the end")
    for one in found.growths:
        mib = (
            f"{one.first_mib:.1f}",
            f"{one.last_mib:.1f}",
            f"{one.slope_mib_min:+.2f}",
            f"{one.share:+.1%}",
        )
        table.add_row(one.name, *mib, str(one.first_files), str(one.last_files))
    console.print(table)
    for error, count in found.errors.most_common(10):
        console.print(f"{count} × {error}", markup=False)
    for problem in found.problems:
        console.print(problem, markup=False)


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high)


def main() -> int:
    """0 where nothing failed and nothing grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000, help="at once; default 1000")
    parser.add_argument("--seconds", type=float, default=300.0, help="default 300")
    parser.add_argument(
        "--tokens", type=_range, default=(40, 80), metavar="FROM-TO", help="of each; default 40-80"
    )
    parser.add_argument(
        "--step", type=float, default=0.5, metavar="S", help="of each stream's tokens; default 0.5"
    )
    parser.add_argument(
        "--flat", type=float, default=0.05, metavar="SHARE", help="growth that counts as none"
    )
    parser.add_argument("--folder", type=Path, default=Path("out/soak"), help="for logs and report")
    given = parser.parse_args()
    folder = given.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plan = Plan(streams=given.streams, seconds=given.seconds, step_s=given.step, tokens=given.tokens)
    found = asyncio.run(Soak(plan, folder, lambda line: print(line, flush=True)).run())
    show(found, Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140))
    (folder / "report.json").write_text(json.dumps(found.as_json(), indent=2) + "\n")
    for leftover in ("nats", "models"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    grown = [one.name for one in found.growths if not one.is_flat(given.flat) or one.more_files]
    failed = bool(found.errors or found.problems or grown)
    print(
        f"{'FAILED' if failed else 'kept'}{': grown: ' + ', '.join(grown) if grown else ''}; logs in {folder}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
