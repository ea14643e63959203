"""What a benchmark is to do, and on what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from headrace.bench.load import Source
from headrace.bench.usage import Processes
from headrace.contract.values import Priority

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as (what is being done, requests ended, requests in all; 0 = not known)."""

_LEAST_REQUESTS, _REQUESTS_PER_CLIENT = 8, 2
"""Without a number: enough that the beginning and the end of a phase, where not all clients are busy, count little."""

_ROUND_AND_ROUND = 256
"""The requests that a closed loop of a given duration goes round, where no number is given."""
_OPEN_LOOP_S = 30.0
"""Of an open loop, where neither a number nor a duration is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One load that is measured by itself."""

    clients: int
    """Consumers of a closed loop; 0 = an open loop."""

    @property
    def name(self) -> str:
        match self.clients:
            case 0:
                return "open loop"
            case 1:
                return "1 client"
            case count:
                return f"{count} clients"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The loads, and how they are measured. The same plan makes the same requests."""

    model: str
    source: Source
    phases: tuple[Phase, ...]
    rate: float
    """Arrivals a second in an open loop; a recorded load keeps its own."""
    requests: int | None
    """Per phase. None = by the number of clients."""
    duration_s: float | None
    """Per phase: nothing is begun after it. A closed loop then goes round and round its requests."""
    seed: int
    priorities: Mapping[Priority, float]
    warm_up: int | None
    """Requests before each measurement. None = two per lane."""
    timeout_s: float
    driver_processes: int
    rounds: int
    """Times that each phase is measured, mesh and engine in turn: on a machine that others use as well, only what was
    measured close together compares.
    """
    direct_batches: tuple[int, ...]
    """Sizes of the sorted batches that are tried on the engine directly."""
    stream_check: bool = True
    """Whether a gap, a repeat or a wrong number of tokens makes a stream a failed one."""

    def count(self, phase: Phase) -> int:
        """How many requests a phase has at most."""
        if self.requests is not None:
            return self.requests
        if phase.clients:
            asked = _LEAST_REQUESTS + _REQUESTS_PER_CLIENT * phase.clients
            return asked if self.duration_s is None else _ROUND_AND_ROUND
        return sys.maxsize  # as many as come in its time

    def until_s(self, phase: Phase) -> float | None:
        """Arrivals of an open loop after this are left out."""
        if phase.clients:
            return None
        return _OPEN_LOOP_S if self.duration_s is None and self.requests is None else self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSetup:
    """How the engine is loaded for the direct runs: as the workers of the mesh load it, all of them together."""

    device: str
    compute_type: str
    lanes: int
    threads_per_lane: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The mesh that is measured."""

    address: str
    processes: Processes
    store: Path
    """Where the model lies, whose tokeniser makes the prompts."""
    lanes: int
    """Of all workers together, as far as it is known."""
    direct: EngineSetup | None
    """None = no direct runs."""
