"""`headrace calibrate`: what it prints, what it keeps, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.contract.cost_document import read_cost
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.worker.calibration import read_calibration
from tests.worker.tiny_model import install_tiny_model

runner = CliRunner()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def run(store: ModelStore, *arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(
        app, ["calibrate", *arguments, "--models", str(store.root), "--device", "cpu"], env={"COLUMNS": "160"}
    )
    return result.exit_code, result.stdout, result.stderr


def test_a_real_model_is_measured_and_kept(store: ModelStore) -> None:
    """The tables, the choice and the file are told; the file holds what was printed, and trials say what was tried."""
    install_tiny_model(store)
    code, out, _ = run(store, "tiny", "--seconds", "2")
    assert code == 0
    for told in ("A decode step, in ms", "A prefill, in ms", "Tokens/s", "chosen", "16 tokens", "Memory"):
        assert told in out
    (path,) = (store.root / ".calibrations").iterdir()
    assert str(path) in out
    kept = read_calibration(path.read_text())
    assert (kept.lanes, kept.threads_per_lane) in {(t.lanes, t.threads_per_lane) for t in kept.trials}
    assert kept.cost.step.batches[0] == 1
    assert kept.cost.load_s > 0
    assert kept.memory.weights_bytes >= 0


def test_lanes_and_threads_can_be_given_and_json_is_what_is_kept(store: ModelStore) -> None:
    """Nothing else is tried then."""
    install_tiny_model(store)
    code, out, _ = run(store, "tiny", "--seconds", "1", "--lanes-threads", "1x2", "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["lanes"], document["threads_per_lane"]) == (1, 2)
    assert len(document["trials"]) == 1
    (path,) = (store.root / ".calibrations").iterdir()
    assert path.read_text() == out


def test_a_fake_models_cost_is_its_timing(store: ModelStore) -> None:
    """Nothing is measured: it is exact, at once."""
    install_fake_model(store, timing=FakeTiming(step_s=5.0, step_s_per_entry=1.0))
    code, out, _ = run(store, "fake", "--json")
    assert code == 0
    cost = read_cost(json.loads(out)["cost"])
    assert cost.step.seconds[0] == 6.0
    code, out, _ = run(store, "fake")
    assert code == 0
    assert "known from its timing" in out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nothing"], 1, "Known here: fake, minilm, smollm2"),
        (["smollm2"], 1, "headrace model pull smollm2"),
        (["fake", "--lanes-threads", "many"], 2, "2x1"),
        (["fake", "--lanes-threads", "0x1"], 2, "2x1"),
        (["fake", "--seconds", "0"], 2, "--seconds"),
        (["tiny", "--compute-type", "float4"], 1, "--compute-type float32"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    store: ModelStore, arguments: list[str], code: int, told: str
) -> None:
    """With what to do."""
    install_fake_model(store)
    if "tiny" in arguments:
        install_tiny_model(store)
    found, _, err = run(store, *arguments)
    assert found == code
    assert told in err
