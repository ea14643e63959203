"""What a worker tells its router of a model's cost, and the lanes that it chooses by it."""

from __future__ import annotations

import dataclasses

import pytest
from structlog.testing import capture_logs

from headrace.contract.costs import ModelCost, check_cost
from headrace.contract.work import WorkerJoin
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from headrace.router.core.cost import CostModel
from headrace.runtime.settings import WorkerSettings
from headrace.worker.calibration_store import CalibrationStore
from headrace.worker.device import EngineInventory, find_device
from headrace.worker.fingerprint import take_fingerprint
from headrace.worker.shape import Shape, choose_shape, shapes_to_try
from tests.worker.conftest import WorkerFor
from tests.worker.fake_router import FakeRouter
from tests.worker.test_calibration import COST, calibration
from tests.worker.tiny_model import install_tiny_model

DEVICE = find_device("cpu", EngineInventory())


def calibrated(store: ModelStore, manifest: Manifest, **changes: object) -> None:
    """The store has a calibration of the model for this machine."""
    fingerprint = take_fingerprint(manifest, DEVICE, "auto")
    CalibrationStore(store).save(calibration(manifest, fingerprint=fingerprint, **changes))


async def joined(
    router: FakeRouter, worker_for: WorkerFor, **settings: object
) -> tuple[WorkerJoin, list[str]]:
    """What a worker of these settings says of itself, and the names of its log lines about costs."""
    with capture_logs() as logs:
        async with worker_for(router.address, **settings):
            join = (await router.stream()).join
    return join, [line["event"] for line in logs if line["event"].startswith(("cost.", "calibration."))]


@pytest.mark.integration
class TestAJoin:
    async def test_it_carries_a_fake_models_exact_cost(
        self, router: FakeRouter, store: ModelStore, worker_for: WorkerFor
    ) -> None:
        """Between and beyond the points of its grids too."""
        timing = FakeTiming(step_s=0.002, step_s_per_entry=0.001, prefill_s_per_token=0.0001, load_s=0.01)
        install_fake_model(store, timing=timing)
        join, told = await joined(router, worker_for)
        assert told == ["cost.fake"]
        cost = join.models[0].cost
        assert cost is not None
        check_cost(cost)
        known = CostModel(cost)
        for batch in (1, 3, 32):
            assert known.step(batch, 700) == pytest.approx(0.002 + batch * 0.001)
            assert known.prefill(batch, 501) == pytest.approx(batch * 500 * 0.0001, rel=0.01)
        assert cost.load_s == 0.01

    async def test_it_carries_what_was_calibrated(
        self, router: FakeRouter, store: ModelStore, worker_for: WorkerFor
    ) -> None:
        """And the lanes that were found best, where the settings leave them open."""
        calibrated(store, install_tiny_model(store).manifest, lanes=3)
        join, told = await joined(router, worker_for, **{"worker.lanes": 0})
        assert told == ["cost.calibrated"]
        assert join.models[0].cost == COST
        assert (join.slots or join.lanes) == 3

    async def test_without_one_it_carries_a_quick_measurement(
        self, router: FakeRouter, store: ModelStore, worker_for: WorkerFor
    ) -> None:
        """Of one entry, and of as many as a lane takes."""
        install_tiny_model(store)
        join, told = await joined(router, worker_for, **{"worker.max_batch": 3})
        assert told == ["cost.measured_quickly"]
        cost = join.models[0].cost
        assert cost is not None
        check_cost(cost)
        assert cost.step.batches == (1, 3)

    async def test_nothing_is_measured_where_no_time_is_given(
        self, router: FakeRouter, store: ModelStore, worker_for: WorkerFor
    ) -> None:
        """Then the router learns from what it observes alone."""
        install_tiny_model(store)
        join, told = await joined(router, worker_for, **{"worker.quick_calibration_s": 0})
        assert told == ["cost.unknown"]
        assert join.models[0].cost is None

    async def test_a_damaged_calibration_is_measured_anew(
        self, router: FakeRouter, store: ModelStore, worker_for: WorkerFor
    ) -> None:
        """Quickly, and the warning stands in the log."""
        manifest = install_tiny_model(store).manifest
        calibrated(store, manifest)
        (path,) = CalibrationStore(store).folder.iterdir()
        path.write_text("{}")
        join, told = await joined(router, worker_for)
        assert told == ["calibration.ignored", "cost.measured_quickly"]
        assert isinstance(join.models[0].cost, ModelCost)


def test_lanes_and_threads_are_as_set_then_as_calibrated_then_by_the_cores(store: ModelStore) -> None:
    """A setting of either leaves the calibration out: it was measured for both together."""
    manifest = install_tiny_model(store).manifest
    device = dataclasses.replace(DEVICE, cores=8)
    assert choose_shape(WorkerSettings(), store, device) == Shape(8, 1)
    fingerprint = take_fingerprint(manifest, device, "auto")
    CalibrationStore(store).save(calibration(manifest, fingerprint=fingerprint, lanes=2, threads_per_lane=4))
    assert choose_shape(WorkerSettings(), store, device) == Shape(2, 4)
    assert choose_shape(WorkerSettings(lanes=5), store, device) == Shape(5, 1)
    assert choose_shape(WorkerSettings(threads_per_lane=2), store, device) == Shape(4, 2)
    assert choose_shape(WorkerSettings(lanes=1, threads_per_lane=3), store, device) == Shape(1, 3)


def test_the_first_model_decides(store: ModelStore) -> None:
    """Of those that are served, in the order they are named."""
    calibrated(store, install_tiny_model(store, "a").manifest, lanes=3)
    calibrated(store, install_tiny_model(store, "b").manifest, lanes=5)
    for names, lanes in (((), 3), (("b", "a"), 5)):
        assert choose_shape(WorkerSettings(models=names), store, DEVICE).lanes == lanes


def test_what_cannot_be_looked_up_is_left_to_the_loading(store: ModelStore) -> None:
    """An empty store, or a model that is not there, is told of when it is loaded."""
    by_cores = Shape(DEVICE.cores, 1)
    assert choose_shape(WorkerSettings(), store, DEVICE) == by_cores
    assert choose_shape(WorkerSettings(models=("none",)), store, DEVICE) == by_cores


@pytest.mark.parametrize(
    ("cores", "shapes"),
    [
        (1, [(1, 1)]),
        (2, [(2, 1), (1, 2)]),
        (6, [(6, 1), (3, 2), (1, 4)]),
        (64, [(64, 1), (32, 2), (16, 4), (8, 8)]),
    ],
)
def test_a_calibration_tries_every_way_to_use_the_cores(cores: int, shapes: list[tuple[int, int]]) -> None:
    """A thread per lane first, which is likeliest; never more threads than cores."""
    device = dataclasses.replace(DEVICE, cores=cores)
    assert shapes_to_try(device) == tuple(Shape(*shape) for shape in shapes)
