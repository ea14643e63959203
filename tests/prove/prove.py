"""`make prove`: measures the README's claims on this machine, and prints measured against required.

    python -m tests.prove.prove                      the claims, in under ten minutes
    python -m tests.prove.prove --group lifecycle    what happens to requests when processes die, in under ten more
    python -m tests.prove.prove --group scheduler    who runs what, and when, in under fifteen
    python -m tests.prove.prove --group models       what models take and reach, as planned; that they change unnoticed
    python -m tests.prove.prove --group observability  what a request's trace says, and what telling costs
    python -m tests.prove.prove --part worker        one part of any

Requirements stand in requirements.toml beside this file. Exit code 1 where one is not met or a part could not run.
All that a part measured goes to out/prove/PART.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import operator
import os
import sys
import time
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from tests.prove import answers, bench, lifecycle, losses, plan, traces
from tests.prove.models.deployed import deployed
from tests.prove.models.embed import embed
from tests.prove.models.rollout import rollout
from tests.prove.observability.cases import explained
from tests.prove.observability.cost import telling_cost
from tests.prove.scheduler.decision import decision
from tests.prove.scheduler.estimates import estimates
from tests.prove.scheduler.queues import flood, many_queues
from tests.prove.scheduler.realtime import realtime
from tests.prove.scheduler.recorded import recorded
from tests.prove.scheduler.saturated import saturated
from tests.prove.scheduler.simulated import simulated
from tests.prove.scheduler.unequal import unequal

REQUIREMENTS = Path(__file__).with_name("requirements.toml")
MEASURED = Path("out/prove")
TOLD = "told"
"""Of a figure that nothing is required of."""
Part = Callable[[Path], Awaitable[Mapping[str, float]]]
GROUPS: Mapping[str, Mapping[str, Part]] = {
    "claims": {
        "streams": bench.streams,
        "model": bench.model,
        "exact": answers.exact,
        "worker": losses.worker,
        "router": losses.router,
        "broker": losses.broker,
        "trace": traces.trace,
    },
    "lifecycle": {
        "storm": lifecycle.storm,
        "kills": lifecycle.kills,
        "model-storm": lifecycle.model_storm,
        "rolling": lifecycle.rolling,
        "soak": lifecycle.soak,
    },
    "scheduler": {
        "decision": decision,
        "many-queues": many_queues,
        "flood": flood,
        "saturated": saturated,
        "realtime": realtime,
        "unequal": unequal,
        "estimates": estimates,
        "recorded": recorded,
        "simulated": simulated,
    },
    "models": {
        "plan": plan.plan,
        "embed": embed,
        "rollout": rollout,
        "deployed": deployed,
    },
    "observability": {
        "explained": explained,
        "telling": telling_cost,
    },
}
"""Each part gives its measures by name, and is given a folder that is its own."""
PARTS: Mapping[str, Part] = {name: part for group in GROUPS.values() for name, part in group.items()}
BUSY = 0.5
"""Load average above which a figure says as much about the neighbours as about the mesh."""
_MEETS = {"at most": operator.le, "at least": operator.ge, "exactly": operator.eq}


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One line of the table."""

    claim: str
    must: str
    unit: str
    value: float = 0.0

    def met_by(self, measured: float) -> bool:
        return self.must == TOLD or bool(_MEETS[self.must](measured, self.value))

    @property
    def asked(self) -> str:
        """For a person."""
        return "" if self.must == TOLD else f"{self.must} {self.value:g} {self.unit}"


def requirements() -> dict[str, dict[str, Requirement]]:
    """By part and measure."""
    found = tomllib.loads(REQUIREMENTS.read_text())
    return {part: {name: Requirement(**one) for name, one in ones.items()} for part, ones in found.items()}


async def run_part(name: str, console: Console) -> tuple[Mapping[str, float], str]:
    """The part's measures, and what went wrong instead, if anything did."""
    started = time.monotonic()
    console.print(f"[bold]{name}[/] …  [dim](alone: python -m tests.prove.prove --part {name})[/]")
    try:
        with TemporaryDirectory(prefix=f"headrace-prove-{name}-") as folder:
            measured = await PARTS[name](Path(folder))
    except Exception as error:  # one part that cannot run must not hide the others
        console.print_exception(show_locals=False)
        return {}, f"{type(error).__name__}: {error}"[:200]
    console.print(f"  [dim]{time.monotonic() - started:.0f} s[/]")
    _keep(name, measured)
    return measured, ""


def _keep(name: str, measured: Mapping[str, float]) -> None:
    MEASURED.mkdir(parents=True, exist_ok=True)
    (MEASURED / f"{name}.json").write_text(json.dumps(measured, indent=2) + "\n")


def show(console: Console, results: Mapping[str, tuple[Mapping[str, float], str]]) -> bool:
    """Prints the table; whether all was met."""
    table = Table("part", "claim", "measured", "required", "", title="Measured against required")
    all_met = True
    for part, lines in requirements().items():
        if part not in results:
            continue
        measured, problem = results[part]
        for name, line in lines.items():
            met = name in measured and line.met_by(measured[name])
            all_met &= met
            shown = f"{measured[name]:.4g} {line.unit}" if name in measured else problem or "not measured"
            table.add_row(
                part,
                line.claim,
                shown,
                line.asked,
                "[red]MISSED[/]" if not met else "" if line.must == TOLD else "[green]met[/]",
            )
    console.print(table)
    return all_met


async def prove(parts: list[str]) -> bool:
    """Runs the parts in turn; whether all requirements were met."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    if (load := os.getloadavg()[0]) > BUSY:
        console.print(
            f"[yellow]Others use this machine (load {load:.1f}): times and ratios may be missed for that.[/]"
        )
    return show(console, {name: await run_part(name, console) for name in parts})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--group", choices=[*GROUPS], default="claims", help="default: claims")
    parser.add_argument("--part", action="append", choices=[*PARTS], help="only this one; may be repeated")
    given = parser.parse_args()
    met = asyncio.run(prove(given.part or [*GROUPS[given.group]]))
    if not given.part and given.group == "claims":
        print("make prove-lifecycle measures what happens to requests when processes die.")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
