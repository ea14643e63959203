"""`headrace demo`: what `make demo` shows, with the real model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from headrace.models.store import StoredModel
from tests.cli.running import Running, run

pytestmark = [pytest.mark.integration, pytest.mark.model]


def test_the_demo_answers_twice_and_leaves_nothing(smollm2: StoredModel) -> None:
    """Two streamed answers of the real model with usage, exit code 0, no process and no folder left."""
    before = set(Path(tempfile.gettempdir()).glob("headrace-demo-*"))
    with Running(
        "demo", env={"HEADRACE_MODELS": str(smollm2.path.parent), "HEADRACE_GATEWAY_PORT": "1"}
    ) as demo:
        demo.wait_for(r"1\. The model")
        demo.wait_for("3\\. A question over gRPC")
        assert len(demo.children()) == 4
        demo.wait_for("smollm2 .*scatter")
        demo.wait_for(r"\d+ \+ \d+ tokens · first token \d+ ms .* finished: end")
        demo.wait_for(r"4\. A question by an event")
        demo.wait_for("smollm2 .*Paris")
        demo.wait_for(r"\d+ \+ \d+ tokens · first token \d+ ms .* finished: ")
        assert demo.wait() == 0
        assert demo.left_over(patience_s=1.0) == []
    assert set(Path(tempfile.gettempdir()).glob("headrace-demo-*")) <= before


def test_the_real_model_through_up(smollm2: StoredModel, tmp_path: Path) -> None:
    """`headrace up` and `headrace generate`, as a newcomer types them: a sensible answer."""
    with Running.up(smollm2.path.parent, tmp_path, "--models", "smollm2") as mesh:
        mesh.wait_for("Ctrl-C drains")
        done = run("generate", "--address", mesh.gateway, "What is the capital of France?")
        assert "Paris" in done.stdout
        assert mesh.end() == 0
        assert mesh.left_over(patience_s=1.0) == []
