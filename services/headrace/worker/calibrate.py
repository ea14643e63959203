"""Measures a model on this machine: what `headrace calibrate` does."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import TypeAlias

from headrace.contract.errors import StartError
from headrace.contract.work import Device
from headrace.models.fake import read_fake_timing
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore, StoredModel
from headrace.worker.calibration import Calibration, Memory, Trial
from headrace.worker.fake_cost import fake_cost
from headrace.worker.fingerprint import take_fingerprint
from headrace.worker.grids import GridPlan, measure_grids
from headrace.worker.serving import Placing, ServingModel, load_model
from headrace.worker.shape import Shape, shapes_to_try
from headrace.worker.trial import (
    TRIAL_CONTEXT,
    TRIAL_TOKENS,
    measure_lane_memory,
    measure_rate,
    process_bytes,
)

BATCHES = (1, 2, 4, 8, 16)
CONTEXTS = (16, 64, 256, 512, 1024)
TEXT_BATCHES = (1, 4, 16, 64)
TEXT_CONTEXTS = (8, 32, 128, 512)
"""Of models that embed."""
TRIAL_SHARE = 0.3
"""Of the time, at most, for the lanes and threads; the grids get the rest."""
MAX_TRIAL_S = 5.0
"""Of one combination: more says no more."""
WORTH = 1.05
"""A combination is preferred to a likelier one that came before it where it makes so much more: less is noise."""

Report: TypeAlias = Callable[[str, float], None]
"""Called with what is being done and the share of the time that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be measured, and for how long."""

    device: Device
    compute_type: str
    """As the settings have it: `auto` or one of the engine's."""
    shape: Shape | None
    """None: whichever makes most."""
    seconds: float


def calibrate(store: ModelStore, name: str, asked: Asked, report: Report) -> Calibration:
    """What the model costs here, in about `asked.seconds` and the loading; longer where one cell alone takes longer.

    A fake model's cost is known from its timing and not measured. Raises StartError, UnknownModel or a ModelError.
    """
    stored = store.open(name)
    if stored.manifest.engine == "fake":
        return _fake(stored, asked)
    try:
        return _Calibrating(store, stored.manifest, asked, report).run()
    except (RuntimeError, MemoryError) as error:  # what the engine raises
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise StartError(
            f"the engine failed while {name} was measured: {problem}",
            "Where it is memory, free some, or measure fewer lanes: --lanes-threads 1x1",
        ) from error


class _Calibrating:
    """One measurement. `_trials`, `_loads_s` and `_memory` are what came of the combinations so far."""

    def __init__(self, store: ModelStore, manifest: Manifest, asked: Asked, report: Report) -> None:
        self._store = store
        self._name = manifest.name
        self._fingerprint = take_fingerprint(manifest, asked.device, asked.compute_type)
        self._asked = asked
        self._report = report
        self._began_s = time.perf_counter()
        self._trials: list[Trial] = []
        self._loads_s: list[float] = []
        self._memory = Memory()

    def run(self) -> Calibration:
        shape = self._choose()
        model = self._load(shape)
        try:
            plan = GridPlan(
                batches=BATCHES if model.encoder is None else TEXT_BATCHES,
                contexts=CONTEXTS if model.encoder is None else TEXT_CONTEXTS,
                lanes=shape.lanes,
                seconds=max(0.0, self._asked.seconds - self._gone_s()),
            )
            told = f"costs with {shape} at work"
            cost = measure_grids(model, plan, progress=lambda _: self._tell(told))
        finally:
            model.engine.close()
        return Calibration(
            model=self._name,
            version=model.served.version,
            fingerprint=self._fingerprint,
            lanes=shape.lanes,
            threads_per_lane=shape.threads_per_lane,
            cost=dataclasses.replace(cost, load_s=median(self._loads_s)),
            trials=tuple(self._trials),
            memory=self._memory,
            measured=_now(),
        )

    def _choose(self) -> Shape:
        shapes: Sequence[Shape] = (
            shapes_to_try(self._asked.device) if self._asked.shape is None else (self._asked.shape,)
        )
        share_s = self._asked.seconds * TRIAL_SHARE / len(shapes)
        best, most = shapes[0], 0.0
        for shape in shapes:
            if self._trials and self._gone_s() + self._loads_s[-1] + share_s > self._asked.seconds / 2:
                break  # a model that loads slowly: the time is for the grids
            rate = self._try(shape, min(share_s, MAX_TRIAL_S))
            if rate > most * WORTH:
                best, most = shape, rate
        return best

    def _try(self, shape: Shape, seconds: float) -> float:
        first, before = not self._trials, process_bytes()
        model = self._load(shape)
        try:
            if first and self._asked.device.kind == "cpu":
                self._memory = Memory(
                    weights_bytes=max(0, process_bytes() - before),
                    lane_bytes=measure_lane_memory(model, shape.lanes),
                )
            self._tell(f"tokens/s with {shape}")
            rate = measure_rate(model, lanes=shape.lanes, seconds=seconds)
            if model.encoder is not None:  # what goes in counts, as nothing comes out
                rate *= TRIAL_CONTEXT / TRIAL_TOKENS
        finally:
            model.engine.close()
        self._trials.append(
            Trial(lanes=shape.lanes, threads_per_lane=shape.threads_per_lane, tokens_per_s=round(rate, 1))
        )
        return rate

    def _load(self, shape: Shape) -> ServingModel:
        self._tell("loading")
        began_s = time.perf_counter()
        model = load_model(
            self._store,
            self._name,
            Placing(
                device=self._asked.device,
                compute_type=self._asked.compute_type,
                lanes=shape.lanes,
                threads_per_lane=shape.threads_per_lane,
            ),
        )
        self._loads_s.append(time.perf_counter() - began_s)
        return model

    def _tell(self, what: str) -> None:
        self._report(what, min(1.0, self._gone_s() / self._asked.seconds))

    def _gone_s(self) -> float:
        return time.perf_counter() - self._began_s


def _fake(stored: StoredModel, asked: Asked) -> Calibration:
    manifest = stored.manifest
    shape = asked.shape or shapes_to_try(asked.device)[0]
    return Calibration(
        model=manifest.name,
        version=manifest.version,
        fingerprint=take_fingerprint(manifest, asked.device, asked.compute_type),
        lanes=shape.lanes,
        threads_per_lane=shape.threads_per_lane,
        cost=fake_cost(read_fake_timing(stored), manifest.context_length),
        measured=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
