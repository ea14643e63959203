"""What a static prompt is worth: an engine that has computed it once keeps it, and prefills only what comes after.

    P'(B, c) = P(B, c) - P(B, k) + (0 where the worker has it, else P(1, k)),   k = tokens of the static prompt

A step costs what it does without.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.contract.values import Task
from headrace.router.core.cost import CostModel


@dataclass(frozen=True, slots=True)
class AfterStatic:
    """A cost model, for prompts that begin with a static prompt of `tokens` tokens."""

    costs: CostModel
    tokens: int
    kept: bool
    """Whether the worker has computed it before."""

    @property
    def task(self) -> Task:
        return self.costs.task

    @property
    def known(self) -> bool:
        return self.costs.known

    def step(self, batch: int, context: float) -> float:
        return self.costs.step(batch, context)

    def steps(self, batch: int, context: float, count: float) -> float:
        return self.costs.steps(batch, context, count)

    def prefill(self, batch: int, context: float) -> float:
        """P'. Never below P(batch, 1)."""
        rest_s = self.costs.prefill(batch, context) - self.costs.prefill(batch, self.tokens)
        first_s = 0.0 if self.kept else self.costs.prefill(1, self.tokens)
        return max(rest_s + first_s, self.costs.prefill(batch, 1))
