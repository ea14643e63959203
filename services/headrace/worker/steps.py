"""The engine's callbacks, gathered into steps. Runs in the lane's thread, inside the engine: no heavy work here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Step: TypeAlias = list[tuple[int, int]]
"""What one step made: (index of the entry in its batch, token id), at most one of each entry."""


@dataclass(slots=True, kw_only=True)
class Slot:
    """An entry as the lane's thread sees it."""

    index: int
    """Its place in the batch."""
    prompt: Sequence[int]
    """What the engine is given: the prompt, and after it what earlier attempts made; to translate, the text alone."""
    left: int
    """How many more tokens it may make. Written by the lane's thread."""
    prefix: Sequence[int] = ()
    """To translate: what the output is made to begin with, and after it what earlier attempts made."""
    halted: bool = False
    """Whether it is to end at its next token, which is dropped. Written by the event loop."""


class StepTurn(Protocol):
    """When the next step may be made."""

    goes: bool
    """Whether it may be made at once."""

    def wait(self) -> None:
        """Blocks until it may, without the GIL and without a computation."""
        ...


class Steps:
    """Hands over each step of `slots` as soon as its last token is there. `on_token` is an `OnToken`.

    Between two steps, inside the last callback of the first, it waits for `turn`: the engine stands still meanwhile.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        emit: Callable[[Step], None],
        turn: StepTurn,
        lengths: Sequence[int] | None = None,
    ) -> None:
        """`lengths`: of what the engine works in before an entry's first token; those of the prompts by default."""
        self._slots = slots
        self._emit = emit
        self._turn = turn
        lengths = lengths or [len(slot.prompt) for slot in slots]
        shortest = min(lengths)
        # The steps in which entries make their first token, latest first.
        self._starts = sorted((length - shortest for length in lengths), reverse=True)
        self._step = -1
        self._live = 0  # entries that make a token in the present step
        self._ended = 0  # those of them that end with it
        self._called = 0  # those of them that have made it
        self._made: Step = []
        self.error: BaseException | None = None
        """What went wrong in a callback, if anything: it must not pass through the engine, which could end the
        process.
        """

    def on_token(self, index: int, token_id: int, step: int, last: bool) -> bool:
        """Takes a token of the entry `slots[index]`. True ends that entry."""
        try:
            if step != self._step:
                self._begin(step)
            slot = self._slots[index]
            if slot.halted:
                ends = True
            else:
                self._made.append((slot.index, token_id))
                slot.left -= 1
                ends = slot.left <= 0
            if ends or last:
                self._ended += 1
            self._called += 1
            if self._called == self._live:
                self.flush()
                # Not after the last step of all: the lane would be kept for nothing.
                if not self._turn.goes and (self._ended < self._live or self._starts):
                    self._turn.wait()
        except BaseException as error:
            self.error = error
            return True
        return ends or self.error is not None

    def flush(self) -> None:
        """Hands over what is there. For the end, where the engine stopped within a step."""
        if self._made:
            made, self._made = self._made, []
            self._emit(made)

    def _begin(self, step: int) -> None:
        self.flush()
        self._step = step
        self._live -= self._ended
        while self._starts and self._starts[-1] <= step:
            self._starts.pop()
            self._live += 1
        self._ended = self._called = 0
