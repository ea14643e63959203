"""What no lockstep engine can do: entries join and leave a running batch at any step. A yardstick, not a rival.

Requests wait in one queue, the more urgent class first and within it the earlier objective, until a slot holds fewer
than `max_batch` entries. A slot prefills a newcomer alone, while its others wait, and then decodes all of them, at the
cost of their number and their mean context.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from headrace.contract.values import OutcomeKind
from headrace.router.core.cost import CostModel
from headrace.simulator.asked import Life
from headrace.simulator.clock import Clock
from headrace.simulator.fleet import Machine
from headrace.simulator.objectives import Objectives


class Slot:
    """Entries that decode together. Written by the Oracle alone."""

    __slots__ = (
        "base_s",
        "base_step",
        "busy_s",
        "contexts",
        "costs",
        "ends",
        "joining",
        "name",
        "next_step",
        "prefill_again_s",
        "prefilling",
        "version",
        "young",
    )

    def __init__(self, name: str, costs: CostModel) -> None:
        self.name = name
        self.costs = costs
        self.ends: list[tuple[int, int, Life]] = []
        """A heap: the step of an entry's last token."""
        self.contexts = 0.0
        """Sum over the entries, at `base_step`."""
        self.joining: deque[Life] = deque()
        """At most so many that the batch is full."""
        self.prefilling: Life | None = None
        self.young: list[Life] = []
        """Prefilled, and without a first token."""
        self.base_s = 0.0
        self.base_step = self.next_step = 0
        self.version = 0
        self.busy_s = 0.0
        self.prefill_again_s = 0.0

    def __len__(self) -> int:
        return len(self.ends) + len(self.joining) + (self.prefilling is not None)


class Oracle:
    """Continuous batching with priorities and earliest objective first."""

    def __init__(
        self,
        machines: Sequence[Machine],
        *,
        max_batch: int,
        mean_output: float,
        objectives: Objectives,
        clock: Clock,
    ) -> None:
        self._max_batch = max_batch
        self._mean_output = mean_output
        self._objectives = objectives
        self._clock = clock
        self._queue: list[tuple[int, float, int, Life]] = []
        self._between: Slot | None = None
        """The one whose part is over and whose next has not begun."""
        self.workers = [
            Slot(machine.name, CostModel(machine.cost)) for machine in machines for _ in range(machine.slots)
        ]

    def arrived(self, life: Life) -> None:
        asked = life.asked
        due_s = asked.arrival_s + self._objectives.first_token_s[asked.priority]
        heappush(self._queue, (int(asked.priority), due_s, asked.index, life))
        self._fill()

    def _fill(self) -> None:
        while self._queue:
            open_slots = [slot for slot in self.workers if len(slot) < self._max_batch]
            if not open_slots:
                return
            life = heappop(self._queue)[3]
            slot = min(open_slots, key=lambda slot: self._takes_s(slot, life))
            slot.joining.append(life)
            if slot.prefilling is None and slot is not self._between:
                if slot.ends:
                    self._end_part_early(slot)
                else:
                    self._go_on(slot)

    def _takes_s(self, slot: Slot, life: Life) -> float:
        """About how long until it would have ended there."""
        prompt, count = life.asked.prompt_tokens, len(slot) + 1
        mean = (slot.contexts + prompt) / (len(slot.ends) + 1)
        prefills_s = slot.costs.prefill(1, prompt - 1) * (count - len(slot.ends))
        return prefills_s + slot.costs.steps(count, mean, self._mean_output)

    def _go_on(self, slot: Slot) -> None:
        """The next part begins: a prefill where one is to join, else steps up to the next mark."""
        slot.base_s = self._clock.now
        if slot.joining:
            life = slot.prefilling = slot.joining.popleft()
            life.start_s = self._clock.now
            slot.version += 1
            took_s = slot.costs.prefill(1, life.asked.prompt_tokens - 1)
            self._clock.at(slot.base_s + took_s, self._prefilled, slot, slot.version)
        elif slot.ends:
            slot.next_step = slot.base_step + 1 if slot.young else slot.ends[0][0]
            self._enter(slot)

    def _enter(self, slot: Slot) -> None:
        slot.version += 1
        took_s = self._steps_s(slot, slot.next_step)
        self._clock.at(slot.base_s + took_s, self._part_over, slot, slot.version)

    def _steps_s(self, slot: Slot, until: int) -> float:
        count = len(slot.ends)
        return slot.costs.steps(count, slot.contexts / count, until - slot.base_step)

    def _end_part_early(self, slot: Slot) -> None:
        so_far_s = self._clock.now - slot.base_s
        low, high = slot.base_step + 1, slot.next_step
        while low < high:
            middle = (low + high) // 2
            if self._steps_s(slot, middle) >= so_far_s:
                high = middle
            else:
                low = middle + 1
        if low < slot.next_step:
            slot.next_step = low
            self._enter(slot)

    def _prefilled(self, slot: Slot, version: int) -> None:
        assert version == slot.version, "a prefill is not interrupted"
        assert slot.prefilling is not None
        life, slot.prefilling = slot.prefilling, None
        slot.busy_s += self._clock.now - slot.base_s
        heappush(slot.ends, (slot.base_step + life.asked.output_tokens, life.asked.index, life))
        slot.contexts += life.asked.prompt_tokens
        slot.young.append(life)
        self._go_on(slot)

    def _part_over(self, slot: Slot, version: int) -> None:
        if version != slot.version:
            return
        now = self._clock.now
        slot.busy_s += now - slot.base_s
        slot.contexts += len(slot.ends) * (slot.next_step - slot.base_step)
        slot.base_step = slot.next_step
        for life in slot.young:
            life.first_s = now
        slot.young.clear()
        while slot.ends and slot.ends[0][0] <= slot.base_step:
            life = heappop(slot.ends)[2]
            slot.contexts -= life.asked.prompt_tokens + life.asked.output_tokens
            life.last_s = now
            life.end(OutcomeKind.COMPLETED)
        self._between = slot
        self._fill()
        self._between = None
        self._go_on(slot)
