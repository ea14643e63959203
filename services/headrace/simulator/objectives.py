"""How soon a first token is to come, and how fast those after it: as multiples of what an idle machine needs.

The unit of the first is a median request, prompt and output, alone on the fastest machine of the fleet: what waits,
waits for requests to end. That of the second is a step of one entry there, at the median context. So the same multiples
ask the same of any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from headrace.contract.values import Priority
from headrace.router.core.cost import CostModel
from headrace.simulator.asked import Life
from headrace.simulator.fleet import Machine

FIRST_TOKEN = (3.0, 6.0, 12.0, 60.0)
"""By Priority. One lane of several is free after less than a request; three leave room for a long one in the way."""
TOKEN = (5.0, 5.0, 5.0, 10.0)
"""By Priority. A machine that is 2.5 times slower meets it with a batch that doubles the time of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """Seconds, by Priority; inf = none."""

    first_token_s: tuple[float, ...] = (inf,) * len(Priority)
    token_s: tuple[float, ...] = (inf,) * len(Priority)

    def met(self, life: Life) -> bool:
        """Whether a completed request was served well."""
        return self.met_first_token(life) and self.met_token(life)

    def met_first_token(self, life: Life) -> bool:
        """Whether its first token came in time."""
        return life.first_s - life.asked.arrival_s <= self.first_token_s[life.asked.priority]

    def met_token(self, life: Life) -> bool:
        """Whether those after it came fast enough, in the mean."""
        steps = life.asked.output_tokens - 1
        return life.last_s - life.first_s <= self.token_s[life.asked.priority] * steps


def relative(
    machines: Sequence[Machine],
    median: tuple[int, int],
    first_token: Sequence[float] = FIRST_TOKEN,
    token: Sequence[float] = TOKEN,
) -> Objectives:
    """The objectives of a fleet under a load whose median prompt and output are `median`."""
    prompt, output = median
    costs = CostModel(min(machines, key=lambda machine: machine.factor).cost)
    request_s = costs.prefill(1, prompt - 1) + costs.steps(1, prompt, output)
    step_s = costs.step(1, prompt + output / 2)
    return Objectives(
        first_token_s=tuple(many * request_s for many in first_token),
        token_s=tuple(many * step_s for many in token),
    )
