"""`python -m tests.chaos`: kills processes under load and checks that nothing is lost."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

from rich.console import Console

from headrace.models.pull import pull
from headrace.models.store import ModelStore, default_root
from tests.chaos.options import Options
from tests.chaos.report import show
from tests.chaos.run import Run


def main() -> int:
    """0 where every promise was kept."""
    given = _parse()
    console = Console(soft_wrap=True)
    models = None
    if given.model != "fake":
        models = Path(os.environ.get("HEADRACE_MODELS") or default_root())
        pull(ModelStore(models), given.model)
    options = Options(
        seed=given.seed,
        duration_s=given.duration,
        every_s=given.every,
        clients=given.clients if given.model == "fake" else min(given.clients, 10),
        model=given.model,
        models=models,
        slowest=given.slowest,
        sampled_odds=given.sampled,
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
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the schedule, the prompts and the lengths")
    parser.add_argument("--duration", type=float, default=60.0, metavar="S", help="of the load")
    parser.add_argument("--every", type=float, default=4.0, metavar="S", help="mean time between two blows")
    parser.add_argument("--clients", type=int, default=28, help="at once")
    parser.add_argument("--model", default="fake", help="fake, or smollm2")
    parser.add_argument("--sampled", type=float, default=0.0, metavar="SHARE", help="of the gRPC requests")
    parser.add_argument("--slowest", type=int, default=0, metavar="N", help="timelines of the longest stalls")
    parser.add_argument("--folder", type=Path, default=Path("out/chaos"), help="for logs and report")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
