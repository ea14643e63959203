"""Meshes for tests of backpressure: real processes and the fake model, as fast and as long-winded as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.hostile.mesh import Mesh

MakeMesh = Callable[..., Mesh]

LONG_CONTEXT = 60_000
ENVIRONMENT = {
    "HEADRACE_LIMITS_MAX_TOKENS": str(LONG_CONTEXT),
    "HEADRACE_ROUTER_WORKER_TIMEOUT_S": "2",
    "HEADRACE_GRPC_KEEPALIVE_TIME_S": "1",
    "HEADRACE_GRPC_KEEPALIVE_TIMEOUT_S": "1",
}
"""Times that decide how soon a peer that hangs is noticed: short, as an operator in a hurry would set them."""


@pytest.fixture
def make_mesh(tmp_path: Path) -> MakeMesh:
    """`make_mesh(step_s=0.01, workers=2, environment={…})`: a mesh that serves `fake`, still to be entered."""

    def make(*, step_s: float = 0.0, environment: dict[str, str] | None = None, **counts: int) -> Mesh:
        models = tmp_path / "models"
        install_fake_model(ModelStore(models), context_length=LONG_CONTEXT, timing=FakeTiming(step_s=step_s))
        return Mesh(tmp_path, models=models, environment={**ENVIRONMENT, **(environment or {})}, **counts)

    return make
