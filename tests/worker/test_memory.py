"""Whether a model fits is known before it is loaded, and a plan says the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.cli.plan_rows import PROCESS_BYTES
from headrace.contract.work import Device
from headrace.models.errors import BadModelFile, NotEnoughMemory
from headrace.models.fake import install_fake_model
from headrace.models.network_shape import NetworkShape
from headrace.models.store import ModelStore, StoredModel
from headrace.worker import memory as memory_module
from headrace.worker import own_models as own_module
from headrace.worker.memory import check_memory, free_bytes, need_of, room_bytes
from headrace.worker.serving import Placing
from tests.models.tiny_tasks import install_tiny_encoder
from tests.worker.conftest import WorkerFor
from tests.worker.fake_router import FakeRouter
from tests.worker.random_model import MODELS, install_random_model

MB = 1_000_000
CPU = Device(kind="cpu", compute_types=("float32", "int8", "int8_float32"))
SLOTS, BATCH = 2, 4


def placing(compute_type: str = "int8") -> Placing:
    return Placing(device=CPU, compute_type=compute_type, lanes=8, threads_per_lane=1)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """With a real network of random weights, 33 MB."""
    found = ModelStore(tmp_path_factory.mktemp("real"))
    install_random_model(found, "small", MODELS["small"])
    return found


def linear(lanes: int, batch: int) -> int:
    """A model of 100 MB, and of 10 MB for each request."""
    return (100 + 10 * lanes * batch) * MB


def check(need: Callable[[int, int], int] = linear, **how: Any) -> int:
    given = {"slots": SLOTS, "max_batch": BATCH, "taken": 0, "limit": None, "remedy": "buy some"}
    return check_memory("m", need, **{**given, **how})


def plan(store: ModelStore, memory: int, batch: int) -> Iterator[dict[str, Any]]:
    """The rows of `headrace plan` for a machine with so much memory for the worker's models."""
    machine = f"cpu 2 cores {(memory + PROCESS_BYTES) / MB:.3f}MB"
    asked = ["--machine", machine, "--lanes", str(SLOTS), "--max-batch", str(batch), "--json"]
    found = CliRunner().invoke(app, ["plan", "small", "--models", str(store.root), *asked])
    assert found.exit_code == 0, found.output
    yield from json.loads(found.output)


def test_a_worker_reckons_with_what_a_plan_says(real: ModelStore) -> None:
    """To the byte, with the same lanes and batches, in each compute type; and where it refuses, the plan says no."""
    for row in plan(real, 10_000 * MB, 1):
        if row["needed_bytes"] is None:
            continue
        need = need_of(real.open("small"), placing(row["compute_type"]))
        needed = need(SLOTS, 1)
        assert needed == row["needed_bytes"] - PROCESS_BYTES
        assert check(need, free=needed) == needed
        with pytest.raises(NotEnoughMemory):
            check(need, free=needed - MB)
        fits = {one["compute_type"]: one["fits"] for one in plan(real, needed - MB, 1)}
        assert fits[row["compute_type"]] == "no"


def test_too_little_is_refused_with_both_numbers() -> None:
    """Of what is free, and of what the worker's models may take together; with how many lanes do fit, if any."""
    assert check(free=120 * MB, limit=125 * MB, taken=5 * MB) == 120 * MB
    with pytest.raises(
        NotEnoughMemory, match="m takes about 120 MB of memory here, and 99 MB are free; buy some"
    ):
        check(free=99 * MB)
    with pytest.raises(NotEnoughMemory, match=r"and 119 MB are free; set worker.lanes to 1, buy some"):
        check(free=200 * MB, limit=125 * MB, taken=6 * MB)
    with pytest.raises(NotEnoughMemory, match="and 0 MB are free"):
        check(free=200 * MB, limit=5 * MB, taken=6 * MB)


def test_what_fits_with_short_batches_alone_is_said() -> None:
    """The model is taken, and the log says which lanes and batches fit; nothing is said where all do."""
    with capture_logs() as logs:
        check(free=180 * MB)
    assert logs == []
    with capture_logs() as logs:
        check(free=160 * MB)
    (line,) = logs
    assert (line["event"], line["free_bytes"], line["wanted_bytes"]) == ("memory.tight", 160 * MB, 180 * MB)
    assert line["remedy"].startswith("set worker.lanes to 2 and worker.max_batch to 3")


def test_what_has_no_shape_of_its_own_counts_by_its_files(tmp_path: Path) -> None:
    """A model that embeds: its weights, four times as many in float32 as in int8, and a part of them for each lane."""
    store = ModelStore(tmp_path)
    model = install_tiny_encoder(store)
    stored = model.manifest.files["model.bin"].size
    wide = need_of(model, placing("float32"))
    assert wide(1, 1) > stored
    assert wide(1, 1) < wide(2, 1) == wide(2, 16)


def test_a_header_that_nobody_can_read_is_no_reason_to_refuse(
    real: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with the file, if anything is, the engine says; the memory is told by its size."""

    def unreadable(model: StoredModel) -> NetworkShape:
        raise BadModelFile(model.path, "no")

    monkeypatch.setattr(memory_module, "shape_of_stored", unreadable)
    model = real.open("small")
    need = need_of(model, placing())
    assert model.manifest.size < need(1, 1) < need(2, 1) < 3 * model.manifest.size


def test_what_was_reckoned_with_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the lanes of a model that is loaded have not used it yet."""
    monkeypatch.setattr(memory_module, "free_bytes", lambda device: 1000 * MB)
    monkeypatch.setattr(memory_module, "process_bytes", lambda: 150 * MB)
    assert room_bytes(CPU, taken=400 * MB) == 750 * MB
    assert room_bytes(CPU, taken=100 * MB) == 1000 * MB
    assert room_bytes(CPU, taken=2000 * MB) == 0


def test_this_machine_has_some() -> None:
    """More than nothing, and less than all."""
    import psutil

    assert 0 < free_bytes(CPU) < psutil.virtual_memory().total


async def test_a_worker_refuses_its_own_models_before_it_loads_them(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not start, the error says what to do, and nothing was loaded."""
    install_fake_model(store)

    def load(*args: Any) -> None:
        raise AssertionError("it was loaded")

    monkeypatch.setattr(own_module, "load_model", load)
    with pytest.raises(ExceptionGroup) as caught:
        async with worker_for(router.address, **{"worker.memory_bytes": 10}):
            await router.stream()
    (error,) = caught.value.exceptions
    assert isinstance(error, NotEnoughMemory)
    assert "worker.memory_bytes" in str(error)
