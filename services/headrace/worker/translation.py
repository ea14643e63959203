"""What a lane's thread does with a batch to translate. Any thread can run it; no asyncio here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from headrace.contract.errors import EngineFailed
from headrace.contract.values import Sampling
from headrace.worker.decode import told
from headrace.worker.gate import Turn
from headrace.worker.steps import Slot, Step, Steps
from headrace.worker.translator import Translator

log = structlog.get_logger(__name__)

_START = 2
"""Tokens; alike for all, so no entry waits for another's. Of one alone it would be a prompt of one token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """The work of one batch. With one beam its tokens come step by step; with several, all of an entry's at once."""

    translator: Translator
    sampling: Sampling
    slots: Sequence[Slot]
    turn: Turn

    def run(self, emit: Callable[[Step], None]) -> EngineFailed | None:
        """Translates all slots, gives what is made to `emit`, and returns what the engine failed with, if it did.

        Blocks the lane's thread, also for as long as it is not this batch's turn. Nothing is raised: a lane outlives
        what its batches do.
        """
        try:
            self.turn.wait()
            slots = [slot for slot in self.slots if not slot.halted]
            if self.sampling.beam_size > 1:
                self._search(slots, emit)
            elif slots:
                self._decode(slots, emit)
        except Exception as error:
            log.warning("engine.failed", entries=len(self.slots), problem=told(error), exc_info=True)
            return EngineFailed(told(error))
        finally:
            self.turn.leave()
        return None

    @staticmethod
    def worked_in(slot: Slot) -> int:
        """What the engine works in of an entry step by step, beside a start of its own: the beginning of the output.
        The source is read at once.
        """
        return len(slot.prefix) + _START

    def _decode(self, slots: Sequence[Slot], emit: Callable[[Step], None]) -> None:
        lengths = [len(slot.prefix) for slot in slots]
        steps = Steps(slots, emit, self.turn, lengths)
        try:
            self.translator.translate(
                [slot.prompt for slot in slots],
                [slot.prefix for slot in slots],
                sampling=self.sampling,
                max_new=max(len(slot.prefix) - min(lengths) + slot.left for slot in slots),
                on_token=steps.on_token,
            )
        finally:
            steps.flush()
        if steps.error is not None:
            raise steps.error

    def _search(self, slots: Sequence[Slot], emit: Callable[[Step], None]) -> None:
        """A search has one length for all, and what it finds depends on it: so each has its own with its like."""
        groups: dict[tuple[int, int], list[Slot]] = {}
        for slot in slots:
            groups.setdefault((len(slot.prefix), slot.left), []).append(slot)
        for number, ((_, left), members) in enumerate(groups.items()):
            if number and not self.turn.goes:
                self.turn.wait()
            group = [slot for slot in members if not slot.halted]
            if not group:
                continue
            found = self.translator.search(
                [slot.prompt for slot in group],
                [slot.prefix for slot in group],
                sampling=self.sampling,
                max_new=left,
            )
            emit([(slot.index, token) for slot, ids in zip(group, found, strict=True) for token in ids])
