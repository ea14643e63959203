"""The run in figures: a table for a person, a mapping for a machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.blows import Struck
from tests.chaos.census import Size
from tests.chaos.checker import Violation
from tests.chaos.durable import Durable
from tests.chaos.schedule import Act
from tests.chaos.seen import Seen
from tests.chaos.stalls import Stalls, stalls_by_kind

PROMISES = (
    *(
        "lost",
        "doubled",
        "gap",
        "changed",
        "content",
        "ended wrongly",
        "refused",
        "denied",
        "usurped",
        "broken",
        "invented",
    ),
    *("usage", "process", "files"),
)
"""Told of even where none was broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is told of a run."""

    command: str
    seconds: float
    blows: Mapping[str, int]
    kills: int
    requests: Mapping[str, Mapping[str, int]]
    """By way, then by outcome."""
    accepted: int
    resumed: int
    """Completed with more than one attempt."""
    violations: Mapping[str, int]
    stalls: Sequence[Stalls]
    sizes: Sequence[Size]
    notes: Sequence[str]
    examples: Sequence[Violation] = field(repr=False)

    @property
    def total(self) -> int:
        return sum(sum(kinds.values()) for kinds in self.requests.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "seconds": round(self.seconds, 1),
            "kills": self.kills,
            "blows": dict(self.blows),
            "requests": self.total,
            "accepted": self.accepted,
            "resumed": self.resumed,
            "by_way": {way: dict(kinds) for way, kinds in self.requests.items()},
            "violations": dict(self.violations),
            "stalls": [asdict(stalls) for stalls in self.stalls],
            "sizes": [asdict(size) for size in self.sizes],
            "notes": list(self.notes),
            "examples": [str(violation) for violation in self.examples[:50]],
        }


def make_report(
    *,
    command: str,
    seconds: float,
    struck: Sequence[Struck],
    all_seen: Sequence[Seen],
    durable: Durable,
    violations: Sequence[Violation],
    sizes: Sequence[Size],
    notes: Sequence[str],
) -> Report:
    requests: dict[str, Counter[str]] = {}
    for seen in all_seen:
        outcome = durable.outcomes.get(seen.asked.request_id)
        missing = "lost" if seen.accepted else "refused" if seen.refused else "not accepted"
        kind = missing if outcome is None else outcome.kind.value
        requests.setdefault(seen.asked.way.value, Counter())[kind] += 1
    counts = Counter(violation.promise for violation in violations)
    return Report(
        command=command,
        seconds=seconds,
        blows=Counter(hit.blow.kind for hit in struck),
        kills=sum(hit.blow.act is Act.KILL for hit in struck),
        requests=requests,
        accepted=sum(seen.accepted for seen in all_seen),
        resumed=sum(outcome.usage.attempts > 1 for outcome in durable.outcomes.values()),
        violations={name: counts.get(name, 0) for name in dict.fromkeys((*PROMISES, *counts))},
        stalls=stalls_by_kind(struck, all_seen),
        sizes=sizes,
        notes=notes,
        examples=violations,
    )


def show(report: Report, console: Console) -> None:
    """The tables."""
    console.print(
        f"{report.kills} kills and {sum(report.blows.values()) - report.kills} other blows in "
        f"{report.seconds:.0f} s, {report.total} requests, {report.accepted} accepted, {report.resumed} resumed"
    )
    kinds = sorted({kind for row in report.requests.values() for kind in row})
    outcomes = Table("requests", *kinds)
    for way, row in report.requests.items():
        outcomes.add_row(way, *(str(row.get(kind, 0)) for kind in kinds))
    console.print(outcomes)
    stalls = Table("after", "blows", "streams", "stalled", "p50 s", "p99 s", "max s")
    for after in report.stalls:
        figures = (f"{value:.2f}" for value in (after.p50_s, after.p99_s, after.most_s))
        kind = f"{after.kind}, alone" if after.lone else after.kind
        stalls.add_row(kind, str(after.blows), str(after.streams), str(after.stalled), *figures)
    console.print(stalls)
    sizes = Table("process", "life", "age s", "MiB then", "now", "most", "files then", "now", "most")
    for size in report.sizes:
        mib = (f"{value:.0f}" for value in (size.first_mib, size.last_mib, size.most_mib))
        files = (str(value) for value in (size.first_files, size.last_files, size.most_files))
        sizes.add_row(size.name, str(size.number), f"{size.age_s:.0f}", *mib, *files)
    console.print(sizes)
    console.print("   ".join(f"{name} {count}" for name, count in report.violations.items()))
    for note in report.notes:
        console.print(note, highlight=False, markup=False)
