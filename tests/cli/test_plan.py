"""`headrace plan`: what fits where, how fast it is there, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.models.fake import install_fake_model
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from headrace.router.core.cost import CostModel
from headrace.worker.calibration_store import CalibrationStore
from headrace.worker.device import EngineInventory, find_device
from headrace.worker.fingerprint import take_fingerprint
from tests.models.tiny_gguf import TinyLlama
from tests.worker.test_calibration import COST, calibration
from tests.worker.tiny_model import install_tiny_model

runner = CliRunner()
SMALL = "cpu 8 cores 32GB 40GB/s"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    root = tmp_path / "models"
    root.mkdir()
    return ModelStore(root)


@pytest.fixture
def manifest(store: ModelStore) -> Manifest:
    """Of a tiny model in the store."""
    return install_tiny_model(store).manifest


def run(store: ModelStore, *arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(app, ["plan", *arguments, "--models", str(store.root)], env={"COLUMNS": "160"})
    return result.exit_code, result.stdout, result.stderr


def rows(store: ModelStore, *arguments: str) -> dict[str, dict[str, Any]]:
    """By compute type."""
    code, out, err = run(store, *arguments, "--json")
    assert code == 0, err
    return {row["compute_type"]: row for row in json.loads(out)}


def test_a_stored_model_is_planned_for_this_machine(store: ModelStore, manifest: Manifest) -> None:
    """By default: every number that memory consists of is told, and that the speed is an estimate."""
    found = rows(store, "tiny", "--device", "cpu")
    assert found["float32"]["fits"] == found["int8"]["fits"] == "yes"
    assert found["float16"]["fits"] == "unsupported"
    assert found["float16"]["needed_bytes"] is None
    row = found["float32"]
    assert row["machine"] == "this machine"
    assert row["needed_bytes"] == row["weights_bytes"] + row["kv_bytes"] + row["overhead_bytes"]
    assert row["parameters"] == manifest.parameters
    assert (row["context"], row["prompt"], row["speed_from"]) == (512, 256, "estimate")
    assert row["tokens_per_s"] > 0


def test_a_calibration_of_this_machine_is_used(store: ModelStore, manifest: Manifest) -> None:
    """For the compute type that was measured, and no other; its lanes too."""
    device = find_device("cpu", EngineInventory())
    CalibrationStore(store).save(
        calibration(manifest, fingerprint=take_fingerprint(manifest, device, "float32"), lanes=3)
    )
    found = rows(store, "tiny", "--device", "cpu", "--context", "200", "--prompt", "100", "--max-batch", "2")
    row = found["float32"]
    assert (row["speed_from"], row["lanes"]) == ("calibration", 3)
    step_s = CostModel(COST).step(2, 100)
    assert row["tokens_per_s"] == pytest.approx(3 * 2 / step_s, abs=0.1)
    assert found["int8"]["speed_from"] == "estimate"
    assert rows(store, "tiny", "--machine", SMALL)["float32"]["speed_from"] == "estimate"


def test_a_number_of_parameters_is_planned_with_a_typical_shape(store: ModelStore) -> None:
    """It says which shape that is, and what does fit where the load does not."""
    code, out, _ = run(store, "7B", "--machine", SMALL, "--machine", "h200 141GB")
    assert code == 0
    for told in ("a typical shape: 32 layers of 4096", "7.0 GB", "no; ", "by its data sheet", "estimate"):
        assert told in out
    row = rows(store, "7B", "--machine", SMALL)["int8"]
    assert row["fits"] == "no"
    lanes, batch = str(row["fitting_lanes"]), str(row["fitting_batch"])
    fitting = rows(store, "7B", "--machine", SMALL, "--lanes", lanes, "--max-batch", batch)["int8"]
    assert fitting["fits"] == "yes"
    assert fitting["fitting_lanes"] is None
    assert rows(store, "70B", "--machine", SMALL)["float32"]["fitting_lanes"] is None


def test_a_file_and_a_folder_are_planned_without_a_store(store: ModelStore, tmp_path: Path) -> None:
    """A GGUF file, and what the engine reads."""
    path = tmp_path / "tiny.gguf"
    TinyLlama.random().write(path)
    folder = install_tiny_model(store).path
    of_file = rows(store, str(path), "--machine", SMALL, "--context", "100")["int8"]
    of_folder = rows(store, str(folder), "--machine", SMALL, "--context", "100")["int8"]
    for name in ("weights_bytes", "kv_bytes", "overhead_bytes", "tokens_per_s"):
        assert of_file[name] == of_folder[name]


def test_a_machine_can_be_described_in_a_file(store: ModelStore, tmp_path: Path) -> None:
    """The same machine in words and in TOML gives the same plan."""
    path = tmp_path / "box.toml"
    path.write_text(
        'kind = "cpu"\nname = "box"\ncores = 8\nmemory = "32GB"\nbandwidth = "40GB/s"\n'
        'compute_types = ["int8"]\n'
    )
    found, words = rows(store, "7B", "--machine", str(path)), rows(store, "7B", "--machine", SMALL)
    assert found["int8"] == words["int8"] | {"machine": "box"}
    assert found["float32"]["fits"] == "unsupported"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nonesuch",), "there is no model 'nonesuch'"),
        (("no/such.gguf",), "'no/such.gguf' is no model in the store, no folder, no GGUF file"),
        (("0B",), "1M to 10T"),
        (("7B", "--machine", "toaster 4GB"), "must begin with cpu, cuda or a card that is known"),
        (("7B", "--machine", "cpu 8 cores"), "does not say how much memory"),
        (("7B", "--machine", "cpu 32GB"), "does not say how many cores"),
        (("7B", "--machine", "cpu 8 cores 32GB fast"), "'fast' means nothing here"),
        (("7B", "--machine", "cpu 0 cores 32GB"), "1 to 4096 cores"),
        (("7B", "--machine", "missing.toml"), "missing.toml: No such file"),
        (("7B", "--machine", SMALL, "--mesh"), "neither --mesh nor --address"),
        (("7B", "--machine", SMALL, "--compute-type", "int4"), "int4"),
        (("fake", "--machine", SMALL), "no weights"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_a_line(
    store: ModelStore, arguments: tuple[str, ...], told: str
) -> None:
    """It names what is wrong, and nothing is printed on stdout."""
    install_fake_model(store)
    code, out, err = run(store, *arguments)
    assert code in (1, 2)
    assert out == ""
    assert told in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind = 'tpu'", "kind must be cpu or cuda"),
        ("memory = 32", "memory must be a number with its unit"),
        ("cores = 'many'", "cores must be a whole number"),
        ("cores = 2", "memory is missing"),
        ("speed = 3", "speed: no such key"),
        ("memory = '32GB'\ncompute_types = ['int4']", "compute_types must be a list"),
        ("memory = ", "not TOML"),
    ],
)
def test_a_bad_machine_file_is_refused(store: ModelStore, tmp_path: Path, text: str, told: str) -> None:
    """By the key and what it must be."""
    path = tmp_path / "box.toml"
    path.write_text(text)
    code, out, err = run(store, "7B", "--machine", str(path))
    assert (code, out) == (2, "")
    assert told in err
