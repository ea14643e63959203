"""What a worker tells its router of a model's cost: as calibrated, or else measured in a hurry when it starts."""

from __future__ import annotations

import dataclasses

import structlog

from headrace.contract.costs import ModelCost
from headrace.models.fake import read_fake_timing
from headrace.models.store import ModelStore
from headrace.runtime.settings import WorkerSettings
from headrace.worker.calibration_store import CalibrationStore
from headrace.worker.fake_cost import fake_cost
from headrace.worker.fingerprint import take_fingerprint
from headrace.worker.grids import GridPlan, measure_grids
from headrace.worker.serving import Placing, ServingModel

log = structlog.get_logger(__name__)

_QUICK_CONTEXTS = (16, 128)
_QUICK_STEPS = 3


def with_cost(model: ServingModel, store: ModelStore, placing: Placing, own: WorkerSettings) -> ServingModel:
    """`model`, knowing its cost: from its calibration, a fake's from its timing, else from a quick measurement of at
    most about `own.quick_calibration_s`, and unknown where that is 0. Blocks so long.

    The quick one runs in one lane alone, where a calibration keeps all at work: it gives the order of magnitude, and
    the router learns the rest from what it observes.
    """
    name = model.served.name
    stored = store.open(name)
    if stored.manifest.engine == "fake":
        cost: ModelCost | None = fake_cost(read_fake_timing(stored), model.context_length)
        log.info("cost.fake", model=name)
        return _knowing(model, cost)
    found = CalibrationStore(store).find(
        stored.manifest, take_fingerprint(stored.manifest, placing.device, placing.compute_type)
    )
    if found is not None:
        log.info(
            "cost.calibrated",
            model=name,
            measured=found.measured,
            with_lanes=found.lanes,
            with_threads_per_lane=found.threads_per_lane,
        )
        return _knowing(model, found.cost)
    remedy = f"for exact costs and the best lanes and threads: headrace calibrate {name}"
    if not own.quick_calibration_s:
        log.info("cost.unknown", model=name, remedy=remedy)
        return model
    cost = _measure_quickly(model, own)
    if cost is not None:
        log.info("cost.measured_quickly", model=name, step_s=cost.step.seconds[0], remedy=remedy)
    return _knowing(model, cost)


def _measure_quickly(model: ServingModel, own: WorkerSettings) -> ModelCost | None:
    plan = GridPlan(
        batches=sorted({1, own.max_batch}),
        contexts=_QUICK_CONTEXTS,
        lanes=1,
        steps=_QUICK_STEPS,
        seconds=own.quick_calibration_s,
        rounds=1,
    )
    try:
        return measure_grids(model, plan)
    except Exception as error:
        # Whatever the engine raises: requests may fare better, and without costs they are served all the same.
        log.warning("cost.not_measured", model=model.served.name, problem=type(error).__name__, exc_info=True)
        return None


def _knowing(model: ServingModel, cost: ModelCost | None) -> ServingModel:
    return dataclasses.replace(model, served=dataclasses.replace(model.served, cost=cost))
