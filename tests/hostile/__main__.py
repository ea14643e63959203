"""Throws hostile messages at a mesh of real processes: `python -m tests.hostile --count 10000 --seed 7`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
import tempfile
from pathlib import Path

# Before gRPC is imported: its handling of forks can crash the processes that are started, at their start.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import structlog

from tests.hostile.plan import item
from tests.hostile.report import report
from tests.hostile.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="how many items (default 10000)")
    parser.add_argument("--seed", type=int, default=None, help="which (default: a new one, which is printed)")
    parser.add_argument("--only", type=int, nargs="*", help="these items of the seed alone")
    parser.add_argument(
        "--show", action="store_true", help="print the items of --only instead of throwing them"
    )
    parser.add_argument("--keep", type=Path, help="a folder for logs and data, which is kept")
    options = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )  # of this process
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    numbers = options.only or range(options.count)
    if options.show:
        for number in numbers:
            print(number, item(seed, number))
        return 0
    with tempfile.TemporaryDirectory(prefix="headrace-hostile-") as temporary:
        folder = options.keep or Path(temporary)
        findings = asyncio.run(
            run(folder, seed=seed, numbers=numbers, say=lambda line: print(line, file=sys.stderr))
        )
    replay = f"python -m tests.hostile --seed {seed} --count {len(numbers)}   # or --only NUMBER …"
    print(report(findings, seed=seed, replay=replay))
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
