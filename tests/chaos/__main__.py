"""`python -m tests.chaos`: kills processes under load and checks that nothing is lost."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from headrace.models.pull import pull
from headrace.models.store import ModelStore, default_root
from tests.chaos.asked import Odds
from tests.chaos.options import HARMLESS, Options
from tests.chaos.report import show
from tests.chaos.run import Run
from tests.chaos.schedule import VICTIMS, Act, kind_of

REAL_CLIENTS = 10
"""More would only wait for the real model."""
EXAMPLES = """examples:
  make chaos                                              a minute with the fake engine
  make chaos ARGS="--seed 7 --duration 1200 --kills 200 --requests 20000"
  make chaos ARGS="--model smollm2 --kills 30 --duration 300"
  make chaos ARGS="--hit worker,router,gateway --acts kill --alone --duration 180"
  make chaos ARGS="--rolling"

A seed gives one schedule and one sequence of requests per client; a run that breaks a promise prints how to replay it,
with the timelines of the requests that it broke. Logs and report stay in --folder."""


def main() -> int:
    """0 where every promise was kept."""
    given = _parse()
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    models = None
    if given.model != "fake":
        models = Path(os.environ.get("HEADRACE_MODELS") or default_root())
        pull(ModelStore(models), given.model)
    fake = given.model == "fake"
    odds = Odds() if fake else HARMLESS
    options = Options(
        seed=given.seed,
        duration_s=given.duration,
        kills=given.kills,
        requests=given.requests,
        every_s=given.every,
        hit=given.hit,
        acts=given.acts,
        alone=given.alone,
        rolling=given.rolling,
        clients=given.clients if fake else min(given.clients, REAL_CLIENTS),
        rate=given.rate,
        odds=odds if given.sampled is None else replace(odds, sampled=given.sampled),
        model=given.model,
        models=models,
        slowest=given.slowest,
    )
    folder = (given.folder / f"seed-{given.seed}").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run = Run(options, folder, lambda line: print(line, flush=True))
    # Not on uvloop: it forks with handlers, and gRPC's crash the child now and then.
    report = asyncio.run(run.run())
    show(report, console)
    (folder / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    broken = sum(report.violations.values())
    for leftover in ("nats", "models"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    console.print(f"{'FAILED' if broken else 'kept'}: {report.command}; logs and report in {folder}")
    return 1 if broken else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    until = parser.add_argument_group("how long: until all of these are reached")
    until.add_argument("--duration", type=float, default=60.0, metavar="S", help="of the load; default 60")
    until.add_argument("--kills", type=int, default=0, metavar="N", help="kill -9 of processes")
    until.add_argument("--requests", type=int, default=0, metavar="N", help="asked by the clients")
    blows = parser.add_argument_group("what happens to the processes")
    blows.add_argument("--seed", type=int, default=1, help="of the schedule, the prompts and the lengths")
    blows.add_argument(
        "--every", type=float, metavar="S",
        help="mean time between two blows; default: as the kills fit the duration, else 4",
    )  # fmt: skip
    blows.add_argument(
        "--hit", type=_kinds, default=(), metavar="KINDS", help="only worker,router,gateway,nats"
    )
    blows.add_argument(
        "--acts", type=_acts, default=tuple(Act), metavar="ACTS",
        help="only kill,hang,drain,part: SIGKILL; SIGSTOP and SIGCONT; SIGTERM; connections cut",
    )  # fmt: skip
    blows.add_argument("--alone", action="store_true", help="one blow at a time: what one loss costs")
    blows.add_argument(
        "--rolling", action="store_true", help="drain everything in turn instead, round after round"
    )
    load = parser.add_argument_group("the load")
    load.add_argument("--clients", type=int, default=40, help="at once; default 40")
    load.add_argument("--rate", type=float, default=20.0, help="most requests a second; default 20")
    load.add_argument("--model", default="fake", help="fake, or smollm2 (float32, at most 10 clients)")
    load.add_argument("--sampled", type=float, metavar="SHARE", help="of the requests; default 0.1")
    parser.add_argument("--slowest", type=int, default=0, metavar="N", help="timelines of the longest stalls")
    parser.add_argument("--folder", type=Path, default=Path("out/chaos"), help="for logs and report")
    return parser.parse_args()


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if unknown := set(kinds) - {kind_of(victim) for victim in VICTIMS}:
        raise argparse.ArgumentTypeError(f"no such process: {', '.join(sorted(unknown))}")
    return kinds


def _acts(text: str) -> tuple[Act, ...]:
    try:
        return tuple(Act(word) for word in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
