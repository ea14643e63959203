"""Whether a model fits is known before it is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.contract.work import Device
from headrace.models.errors import NotEnoughMemory
from headrace.models.fake import install_fake_model
from headrace.models.manifest import FileEntry, Manifest
from headrace.models.store import ModelStore
from headrace.worker import own_models as own_module
from headrace.worker.memory import check_memory, free_bytes, needed_bytes
from headrace.worker.serving import Placing
from tests.worker.conftest import WorkerFor
from tests.worker.fake_router import FakeRouter

MB = 1_000_000
CPU = Device(kind="cpu", compute_types=("float32", "int8", "int8_float32"))
STORED = Manifest(
    name="m",
    engine="ctranslate2",
    architecture="llama",
    context_length=128,
    vocab_size=300,
    end_token_ids=(2,),
    end_tokens=("</s>",),
    quantisation="int8",
    parameters=0,
    source="test",
    licence="none",
    files={
        "model.bin": FileEntry(sha256="00", size=100 * MB),
        "tokenizer.json": FileEntry(sha256="11", size=9 * MB),
    },
)


def needed(store: ModelStore, compute_type: str, slots: int = 2) -> float:
    """In MB."""
    placing = Placing(device=CPU, compute_type=compute_type, lanes=8, threads_per_lane=1)
    return needed_bytes(STORED, store, placing, slots) / MB


def test_what_is_computed_wider_than_it_is_stored_takes_more(store: ModelStore) -> None:
    """Weights as computed, and beside them the lanes, or for a moment the weights as stored."""
    assert needed(store, "int8") == pytest.approx(100 + 2 * 25 + 33.6, abs=0.1)
    assert needed(store, "int8_float32") == needed(store, "int8") == needed(store, "auto")
    assert needed(store, "float32") == pytest.approx(400 + 100 + 33.6, abs=0.1)
    assert needed(store, "int8", slots=8) == pytest.approx(100 + 8 * 25 + 33.6, abs=0.1)


def test_too_little_is_refused_with_both_numbers() -> None:
    """Of what is free, and of what the worker's models may take together."""
    check_memory("m", 10 * MB, free=10 * MB, taken=5 * MB, limit=None, remedy="")
    check_memory("m", 10 * MB, free=20 * MB, taken=5 * MB, limit=15 * MB, remedy="")
    with pytest.raises(
        NotEnoughMemory, match="m takes about 11 MB of memory here, and 10 MB are free; buy some"
    ):
        check_memory("m", 11 * MB, free=10 * MB, taken=0, limit=None, remedy="buy some")
    with pytest.raises(NotEnoughMemory, match="and 4 MB are free"):
        check_memory("m", 5 * MB, free=99 * MB, taken=5 * MB, limit=9 * MB, remedy="")


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
