"""Everything that a benchmark measured. Its JSON is these dataclasses, field by field."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import psutil
from pydantic import ConfigDict, TypeAdapter

from headrace.bench.figures import Figures
from headrace.bench.usage import Usage

FORMAT = 1
FIRST_COME = "first come, batch 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where it was measured."""

    system: str
    cores: int
    memory_mb: float
    load_before: float
    """The machine's load average over the minute before: above 0.1 or so, somebody else used it too."""
    python: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectReport:
    """One run on the engine directly."""

    lanes: int
    batch: int
    by_length: bool
    figures: Figures
    """Of a sorted run the throughput alone means something: everything was known before."""
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One measurement of the mesh, and those of the engine beside it."""

    mesh: Figures
    by_priority: Mapping[str, Figures]
    """Empty where there is only one."""
    processes: Mapping[str, Usage]
    """The mesh's own. Empty for one on other machines."""
    driver: Usage
    """The load generator's: its CPU is on the machine too, but no part of the mesh."""
    direct: Mapping[str, DirectReport]

    def ratio(self) -> float | None:
        """Output tokens a second: the mesh by the engine at first come, batch 1."""
        return self._against(FIRST_COME)

    def best(self) -> str | None:
        """The direct run that made the most tokens a second."""
        return max(self.direct, key=lambda name: self.direct[name].figures.output_tokens_per_s, default=None)

    def ratio_to_best(self) -> float | None:
        """Output tokens a second: the mesh by the best of the direct runs."""
        return self._against(self.best())

    def added_first_token_ms(self) -> float | None:
        """Median time to the first token: the mesh less the engine at first come, batch 1."""
        direct = self.direct.get(FIRST_COME)
        return None if direct is None else self.mesh.first_token_ms.p50 - direct.figures.first_token_ms.p50

    def _against(self, name: str | None) -> float | None:
        direct = self.direct.get(name) if name else None
        if direct is None or not direct.figures.output_tokens_per_s:
            return None
        return self.mesh.output_tokens_per_s / direct.figures.output_tokens_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReport:
    """One phase."""

    name: str
    clients: int
    """0 = an open loop."""
    requests: int
    rounds: tuple[Round, ...]
    ratio: float | None
    """Median over the rounds, as the two below; None where the engine was not measured."""
    ratio_to_best: float | None
    added_first_token_ms: float | None

    @property
    def middle(self) -> Round:
        """The round of median throughput, to be shown for all."""
        ordered = sorted(self.rounds, key=lambda one: one.mesh.output_tokens_per_s)
        return ordered[len(ordered) // 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: int
    made_at: str
    machine: Machine
    settings: Mapping[str, str]
    """What was asked for, in words."""
    phases: tuple[PhaseReport, ...]

    @property
    def errors(self) -> int:
        """Requests that failed in the mesh, over all phases and rounds."""
        return sum(sum(one.mesh.errors.values()) for phase in self.phases for one in phase.rounds)


REPORT = TypeAdapter(Report)


def report_phase(*, name: str, clients: int, requests: int, rounds: tuple[Round, ...]) -> PhaseReport:
    """A phase with the medians of its rounds."""
    return PhaseReport(
        name=name,
        clients=clients,
        requests=requests,
        rounds=rounds,
        ratio=_median([one.ratio() for one in rounds]),
        ratio_to_best=_median([one.ratio_to_best() for one in rounds]),
        added_first_token_ms=_median([one.added_first_token_ms() for one in rounds]),
    )


def this_machine() -> Machine:
    """The machine that this process runs on."""
    names = ("headrace", "ctranslate2", "grpcio", "nats-py", "protobuf")
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_mb=psutil.virtual_memory().total / 1e6,
        load_before=os.getloadavg()[0],
        python=platform.python_version(),
        versions={name: _version(name) for name in names},
    )


def now_text() -> str:
    """The time of day, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
