"""Everything that a study found. Its JSON is these dataclasses, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ConfigDict, TypeAdapter

from headrace.contract.values import Priority
from headrace.simulator.objectives import Objectives
from headrace.simulator.scenario import objectives_of
from headrace.simulator.study import Findings, Plan

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of one class."""

    first_token_s: float
    token_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: int
    settings: Mapping[str, str]
    """What was simulated, in words."""
    objectives: Mapping[str, Asked]
    """By class."""
    findings: Findings


REPORT = TypeAdapter(Report)


def report_of(plan: Plan, findings: Findings) -> Report:
    """With what it is about."""
    objectives = objectives_of(plan.scenario)
    return Report(
        format=FORMAT,
        settings=_told(plan),
        objectives=_asked(plan, objectives),
        findings=findings,
    )


def _asked(plan: Plan, objectives: Objectives) -> dict[str, Asked]:
    return {
        priority.label: Asked(
            first_token_s=objectives.first_token_s[priority], token_s=objectives.token_s[priority]
        )
        for priority in Priority
        if any(one is priority for one, _ in plan.scenario.load.classes)
    }


def _told(plan: Plan) -> dict[str, str]:
    scenario, load = plan.scenario, plan.scenario.load
    told = {
        "load": load.trace.name if load.trace else "synthetic",
        "requests": str(load.requests),
        "scales": f"prompts / {load.scale_context:g}, outputs / {load.scale_output:g}",
        "classes": ", ".join(f"{priority.label} {share:g}" for priority, share in load.classes),
        "tenants": str(load.tenants),
        "fleet": scenario.fleet,
        "costs": scenario.grid,
        "seeds": str(plan.seeds),
    }
    if load.flood:
        flood = load.flood
        told["flood"] = f"x{flood.factor:g}, from {flood.start_s:g} s on for {flood.duration_s:g} s"
    if scenario.settings:
        told["scheduler"] = ", ".join(f"{name}={value}" for name, value in scenario.settings.items())
    return told
