"""A batch in its lane's thread: what the engine is asked for, and how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from headrace.contract.errors import EngineFailed
from headrace.contract.values import Sampling
from headrace.worker.engine import Engine
from headrace.worker.gate import Turn
from headrace.worker.steps import Slot, Step, Steps

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """The work of one batch."""

    engine: Engine
    sampling: Sampling
    slots: Sequence[Slot]
    turn: Turn
    static_tokens: int = 0
    """As in StartBatch."""

    def run(self, emit: Callable[[Step], None]) -> EngineFailed | None:
        """Decodes all slots, gives each step to `emit`, and returns what the engine failed with, if it did.

        Blocks the lane's thread, also for as long as it is not this batch's turn. Nothing is raised: a lane outlives
        what its batches do.
        """
        try:
            self.turn.wait()
            for group in _groups(self.slots):
                self._run_group(group, emit)
        except Exception as error:
            log.warning("engine.failed", entries=len(self.slots), problem=told(error), exc_info=True)
            return EngineFailed(told(error))
        finally:
            self.turn.leave()
        return None

    def _run_group(self, group: Sequence[Slot], emit: Callable[[Step], None]) -> None:
        steps = Steps(group, emit, self.turn)
        shortest = min(len(slot.prompt) for slot in group)
        try:
            self.engine.run(
                [slot.prompt for slot in group],
                sampling=self.sampling,
                max_new=max(len(slot.prompt) - shortest + slot.left for slot in group),
                on_token=steps.on_token,
                static_tokens=self.static_tokens if shortest >= self.static_tokens + 2 else 0,
            )
        finally:
            steps.flush()
        if steps.error is not None:
            raise steps.error


def _groups(slots: Sequence[Slot]) -> Iterator[Sequence[Slot]]:
    """The slots that may be decoded together: a one-token prompt only with its like. Without those halted already:
    it is called when the batch begins.
    """
    waiting = [slot for slot in slots if not slot.halted]
    single = [slot for slot in waiting if len(slot.prompt) == 1]
    longer = [slot for slot in waiting if len(slot.prompt) > 1]
    for group in (longer, single):
        if group:
            yield group


def told(error: Exception) -> str:
    """One line for a person. An engine's message speaks of shapes and memory, never of content."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
