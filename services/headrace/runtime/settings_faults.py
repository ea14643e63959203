"""What is wrong with the settings: one fault per key, and the error that lists them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.contract.errors import StartError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong: where it stands, what is wrong with it, and what would be right.

    `problem` never quotes a secret's value. `allowed` is empty where the problem says it all.
    """

    source: str
    problem: str
    allowed: str = ""

    def __str__(self) -> str:
        return f"{self.source}: {self.problem}" + (f"; allowed: {self.allowed}" if self.allowed else "")


class SettingsError(StartError):
    """The settings cannot be used. `faults` holds every fault that was found, `str()` is one line for each."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__("\n  ".join([f"the settings have {count}:", *map(str, faults)]))
        self.faults = tuple(faults)
