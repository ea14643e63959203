"""`headrace bench` from end to end."""

from __future__ import annotations

import json
import random
from pathlib import Path

import psutil
import pytest

from headrace.bench.prompts import make_prompt
from headrace.bench.report import REPORT
from headrace.models.store import StoredModel
from headrace.models.tokeniser import Tokeniser
from tests.cli.running import Running, run

pytestmark = pytest.mark.integration


def test_a_small_benchmark_measures_mesh_and_engine(tmp_path: Path) -> None:
    """No error, all figures there, the engine beside the mesh in the same run, and no process left."""
    file = tmp_path / "bench.json"
    flags = ("--engine", "fake", "--step-ms", "2", "--lanes", "2", "--direct-batches", "2")
    load = ("--clients", "4", "--requests", "12", "--prompt-tokens", "8-32", "--output-tokens", "8-16")
    done = run("bench", *flags, *load, "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = file.read_bytes()
    assert json.loads(REPORT.dump_json(REPORT.validate_json(written))) == json.loads(written)
    report = json.loads(written)
    (phase,) = report["phases"]
    (measured,) = phase["rounds"]
    mesh = measured["mesh"]
    assert mesh["errors"] == {}
    assert mesh["output_tokens_per_s"] > 0
    assert set(mesh["first_token_ms"]) >= {"p50", "p90", "p99"}
    assert set(measured["processes"]) >= {"nats", "router", "gateway"}
    assert set(measured["direct"]) == {"first come, batch 1", "sorted, batch 2"}
    assert phase["ratio"] > 0
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "headrace" in " ".join(child.cmdline())]


def test_an_interrupted_benchmark_leaves_no_process() -> None:
    """Ctrl-C in the middle of a phase: exit code 130, and mesh, engine and load generator are gone."""
    flags = ("--engine", "fake", "--lanes", "2", "--clients", "2", "--duration", "60")
    with Running("bench", *flags) as bench:
        bench.wait_for("2 clients: mesh")
        assert len(bench.children()) >= 5
        assert bench.end() == 130
        assert bench.left_over(5.0) == []


@pytest.mark.model
def test_prompts_have_exactly_the_length_asked_for(smollm2: StoredModel) -> None:
    """As the model's own tokeniser counts them."""
    tokeniser = Tokeniser.load(smollm2)
    rng = random.Random(5)
    for length in (1, 2, 16, 127, 512):
        assert len(tokeniser.encode_prompt(make_prompt(tokeniser, length, rng))) == length
