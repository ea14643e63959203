"""Calibrations: kept beside the models, read back, and taken for what they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from headrace.contract.costs import CostGrid, ModelCost
from headrace.contract.work import Device
from headrace.models.errors import StoreFailed
from headrace.models.fake import install_fake_model
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from headrace.worker.calibration import Calibration, Memory, Trial, read_calibration, write_calibration
from headrace.worker.calibration_store import CalibrationStore
from headrace.worker.fingerprint import Fingerprint, take_fingerprint
from tests.contract.test_cost_document import costs

HERE = Fingerprint(
    processor="A CPU @ 2 GHz", cores=2, device="cpu", device_name="A CPU", engine="e 1.0", compute_type="int8"
)
COST = ModelCost(
    step=CostGrid(batches=(1, 4), contexts=(16,), seconds=(0.01, 0.02)),
    prefill=CostGrid(batches=(1,), contexts=(16, 64), seconds=(0.01, 0.04)),
    load_s=0.5,
)


def calibration(manifest: Manifest, **changes: object) -> Calibration:
    known = Calibration(
        model=manifest.name,
        version=manifest.version,
        fingerprint=HERE,
        lanes=2,
        threads_per_lane=1,
        cost=COST,
        trials=(Trial(lanes=2, threads_per_lane=1, tokens_per_s=152.5),),
        memory=Memory(weights_bytes=150, lane_bytes=20),
        measured="2026-01-02T03:04:05+00:00",
    )
    return dataclasses.replace(known, **changes)  # type: ignore[arg-type]


@pytest.fixture
def manifest(store: ModelStore) -> Manifest:
    return install_fake_model(store).manifest


COUNTS = st.integers(1, 1024)
calibrations = st.builds(
    Calibration,
    model=st.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True),
    version=st.text(max_size=12),
    fingerprint=st.builds(
        Fingerprint,
        processor=st.text(max_size=30),
        cores=COUNTS,
        device=st.sampled_from(["cpu", "cuda"]),
        device_name=st.text(max_size=30),
        engine=st.text(max_size=30),
        compute_type=st.text(max_size=12),
    ),
    lanes=COUNTS,
    threads_per_lane=COUNTS,
    cost=costs,
    trials=st.lists(
        st.builds(Trial, lanes=COUNTS, threads_per_lane=COUNTS, tokens_per_s=st.floats(0, 1e6)), max_size=3
    ).map(tuple),
    memory=st.builds(Memory, weights_bytes=st.integers(0, 1 << 40), lane_bytes=st.integers(0, 1 << 40)),
    measured=st.text(max_size=30),
)


@given(calibrations)
def test_a_calibration_comes_back_as_it_was_written(known: Calibration) -> None:
    """Whatever processors call themselves."""
    assert read_calibration(write_calibration(known)) == known


@given(st.text(max_size=200) | calibrations.map(write_calibration).map(lambda text: text[: len(text) // 2]))
def test_whatever_else_is_read_is_a_value_error(text: str) -> None:
    """And nothing else: a worker starts all the same."""
    with pytest.raises(ValueError):  # noqa: PT011 - what it says depends on the text
        read_calibration(text)


def test_it_is_kept_beside_the_models(store: ModelStore, manifest: Manifest) -> None:
    """Found again for the same model, version and machine; the store's models are the same as before, and whole."""
    kept = CalibrationStore(store)
    path = kept.save(calibration(manifest))
    assert kept.find(manifest, HERE) == calibration(manifest)
    assert path.is_relative_to(store.root)
    assert store.names() == [manifest.name]
    store.verify(manifest.name)


def test_the_last_one_counts(store: ModelStore, manifest: Manifest) -> None:
    """It takes the former one's place, and nothing else is left in the folder."""
    kept = CalibrationStore(store)
    kept.save(calibration(manifest))
    path = kept.save(calibration(manifest, lanes=1))
    found = kept.find(manifest, HERE)
    assert found is not None
    assert found.lanes == 1
    assert list(kept.folder.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        {"cores": 4},
        {"compute_type": "float32"},
        {"processor": "Another"},
        {"device": "cuda"},
        {"device_name": "?"},
        {"engine": "e 1.1"},
    ],
)
def test_another_machines_is_not_taken(
    store: ModelStore, manifest: Manifest, change: dict[str, object]
) -> None:
    """Nor that of another version of the model; a store that machines share holds them side by side."""
    kept = CalibrationStore(store)
    there = dataclasses.replace(HERE, **change)  # type: ignore[arg-type]
    kept.save(calibration(manifest, fingerprint=there))
    kept.save(calibration(manifest, version="other"))
    assert kept.find(manifest, HERE) is None
    kept.save(calibration(manifest))
    assert len(list(kept.folder.iterdir())) == 3


def test_a_damaged_or_foreign_file_is_ignored_with_a_warning(store: ModelStore, manifest: Manifest) -> None:
    """The warning names the file, what is wrong with it, and what to do."""
    kept = CalibrationStore(store)
    path = kept.save(calibration(manifest))
    other = calibration(manifest, fingerprint=dataclasses.replace(HERE, cores=64))
    for text, problem in (
        ("{", "JSON"),
        (path.read_text().replace('"format": 1', '"format": 9'), "format 1"),
        (path.read_text().replace('"lanes": 2', '"lanes": 0'), "greater than"),
        (path.read_text().replace('"seconds"', '"hours"'), "seconds"),
        (write_calibration(other), "another machine"),
        (write_calibration(calibration(manifest, version="1")), f"{manifest.name} 1"),
    ):
        path.write_text(text)
        with capture_logs() as logs:
            assert kept.find(manifest, HERE) is None
        (line,) = logs
        assert line["log_level"] == "warning"
        assert line["path"] == str(path)
        assert problem in line["problem"]
        assert f"headrace calibrate {manifest.name}" in line["remedy"]
        kept.save(calibration(manifest))


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """As an error of the store, which names the folder."""
    (tmp_path / "models").write_text("a file")
    store = CalibrationStore(ModelStore(tmp_path / "models"))
    with pytest.raises(StoreFailed, match="models"):
        store.save(calibration(Manifest(name="m", **_LEAST)))


_LEAST: dict[str, Any] = {
    "engine": "fake",
    "architecture": "fake",
    "context_length": 8,
    "vocab_size": 8,
    "end_token_ids": (1,),
    "end_tokens": ("e",),
    "quantisation": "none",
    "parameters": 0,
    "source": "test",
    "licence": "none",
}


def test_a_fingerprint_is_that_of_the_machine() -> None:
    """Equal on the same one, with the engine's version and the number format as it is computed, not as it is asked."""
    device = Device(kind="cpu", name="A CPU", cores=2, compute_types=("float32", "int8"))
    real = Manifest(name="m", **{**_LEAST, "engine": "ctranslate2", "quantisation": "int8"})
    taken = take_fingerprint(real, device, "auto")
    assert taken == take_fingerprint(real, device, "int8")
    assert taken.digest == take_fingerprint(real, device, "int8").digest
    assert taken.digest != take_fingerprint(real, device, "float32").digest
    assert taken.compute_type == "int8"
    assert taken.engine.startswith("ctranslate2 4.")
