"""The benchmark itself: each phase on the mesh and on the engine, in turn."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from headrace.bench.direct import Runs
from headrace.bench.directs import DirectEngine
from headrace.bench.driver import ToSend
from headrace.bench.drivers import Drive, Driven, drive
from headrace.bench.figures import Figures, figures_of
from headrace.bench.load import plan_load
from headrace.bench.plan import Phase, Plan, Progress, Target
from headrace.bench.prompts import make_prompt
from headrace.bench.record import CHECKS, Record
from headrace.bench.report import (
    FIRST_COME,
    FORMAT,
    DirectReport,
    PhaseReport,
    Report,
    Round,
    now_text,
    report_phase,
    this_machine,
)
from headrace.bench.usage import UsageMeter, usage_of
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser

_WARM_UP_PER_LANE = 2


async def run_benchmark(
    plan: Plan, target: Target, settings: Mapping[str, str], progress: Progress
) -> Report:
    """Measures all phases. `settings` go into the report as they are.

    Raises ChildFailed where a driver or the engine fails as a whole; a request that fails is counted.
    """
    machine, made_at = this_machine(), now_text()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        direct = None
        if target.direct is not None:
            progress("loading the engine for the direct runs", 0, 0)
            direct = await stack.enter_async_context(
                DirectEngine(target.store, plan.model, target.direct, folder)
            )
        bench = _Benchmark(plan, target, direct, folder, progress)
        phases = [await bench.measure(phase) for phase in plan.phases]
    return Report(
        format=FORMAT, made_at=made_at, machine=machine, settings=dict(settings), phases=tuple(phases)
    )


class _Benchmark:
    """What the phases share."""

    def __init__(
        self, plan: Plan, target: Target, direct: DirectEngine | None, folder: Path, progress: Progress
    ) -> None:
        self._plan = plan
        self._target = target
        self._direct = direct
        self._folder = folder
        self._progress = progress
        self._model = ModelStore(target.store).open(plan.model)
        self._tokeniser = Tokeniser.load(self._model)
        self._meter = UsageMeter(target.processes)

    async def measure(self, phase: Phase) -> PhaseReport:
        """One phase, all its rounds."""
        self._progress(f"{phase.name}: making the prompts", 0, 0)
        requests = self._requests(phase)
        runs = self._runs(phase)
        rounds: list[Round] = []
        for number in range(self._plan.rounds):
            label = phase.name if self._plan.rounds == 1 else f"{phase.name}, round {number + 1}"
            rounds.append(await self._round(phase, requests, runs, label))
            runs = _without_the_slower(runs, rounds[0])
        return report_phase(
            name=phase.name, clients=phase.clients, requests=len(requests), rounds=tuple(rounds)
        )

    async def _round(
        self, phase: Phase, requests: Sequence[ToSend], runs: Mapping[str, Runs], label: str
    ) -> Round:
        driven = await self._drive(phase, requests, f"{label}: mesh")
        # The engine gets what the mesh did, in the order in which it was sent: with a duration that is another number.
        done = [requests[record.index] for record in driven.records]
        direct = {
            name: await self._run_direct(done, how, f"{label}: engine, {name}") for name, how in runs.items()
        }
        mesh = self._figures(requests, driven.records)
        return Round(
            mesh=mesh,
            by_priority=self._by_priority(requests, driven.records),
            processes=self._meter.usage(mesh.output_tokens),
            driver=driven.usage,
            direct=direct,
        )

    async def _drive(self, phase: Phase, requests: Sequence[ToSend], label: str) -> Driven:
        plan = self._plan
        how = Drive(
            address=self._target.address,
            model=plan.model,
            clients=phase.clients,
            warm_up=_WARM_UP_PER_LANE * self._target.lanes if plan.warm_up is None else plan.warm_up,
            duration_s=plan.duration_s,
            timeout_s=plan.timeout_s,
            processes=plan.driver_processes,
        )
        total = 0 if plan.duration_s is not None and phase.clients else len(requests)
        self._progress(label, 0, total)
        driven = await drive(
            how, requests, self._meter, self._folder, lambda done: self._progress(label, done, total)
        )
        if not plan.stream_check:
            for record in driven.records:
                record.error = "" if record.error in CHECKS else record.error
        return driven

    async def _run_direct(self, requests: Sequence[ToSend], how: Runs, label: str) -> DirectReport:
        assert self._direct is not None
        self._progress(label, 0, len(requests))
        result = await self._direct.run(
            requests, how, lambda done: self._progress(label, done, len(requests))
        )
        figures = self._figures(requests, result.records)
        return DirectReport(
            lanes=how.lanes,
            batch=how.batch,
            by_length=how.by_length,
            figures=figures,
            usage=usage_of(result.cpu_s, result.peak_bytes, figures.output_tokens),
        )

    def _requests(self, phase: Phase) -> list[ToSend]:
        plan = self._plan
        load = plan_load(
            plan.source,
            count=plan.count(phase),
            seed=plan.seed,
            rate=plan.rate,
            until_s=plan.until_s(phase),
            priorities=plan.priorities,
            context_length=self._model.manifest.context_length,
        )
        rng = random.Random(f"{plan.seed}/prompts")
        return [
            ToSend(
                index=index,
                prompt=make_prompt(self._tokeniser, planned.prompt_tokens, rng),
                prompt_tokens=planned.prompt_tokens,
                output_tokens=planned.output_tokens,
                priority=planned.priority.label,
                arrival_s=planned.arrival_s,
            )
            for index, planned in enumerate(load)
        ]

    def _runs(self, phase: Phase) -> dict[str, Runs]:
        """The direct runs of a phase. With few clients no more runs at once than they would have under way."""
        if self._direct is None:
            return {}
        lanes = min(self._direct.lanes, phase.clients) if phase.clients else self._direct.lanes
        runs = {
            FIRST_COME: Runs(
                lanes=lanes, batch=1, by_length=False, open_loop=not phase.clients, clients=phase.clients
            )
        }
        for batch in self._plan.direct_batches:
            if phase.clients >= lanes * batch:
                runs[f"sorted, batch {batch}"] = Runs(
                    lanes=lanes, batch=batch, by_length=True, open_loop=False, clients=0
                )
        return runs

    def _figures(self, requests: Sequence[ToSend], records: Sequence[Record]) -> Figures:
        return figures_of(records, {request.index: request.prompt_tokens for request in requests})

    def _by_priority(self, requests: Sequence[ToSend], records: Sequence[Record]) -> dict[str, Figures]:
        if len(self._plan.priorities) == 1:
            return {}
        return {
            priority.label: self._figures(
                requests, [one for one in records if requests[one.index].priority == priority.label]
            )
            for priority in sorted(self._plan.priorities)
        }


def _without_the_slower(runs: Mapping[str, Runs], measured: Round) -> dict[str, Runs]:
    """First come, and the best of the sorted runs: the others need no second measurement."""
    sorted_runs = {name: one for name, one in measured.direct.items() if one.by_length}
    best = max(sorted_runs, key=lambda name: sorted_runs[name].figures.output_tokens_per_s, default=None)
    return {name: how for name, how in runs.items() if not how.by_length or name == best}
