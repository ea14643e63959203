"""Meshes of real processes, with the real model and with the fake one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore, StoredModel
from tests.integration.processes import Processes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real_mesh(
    smollm2: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Processes]:
    """A mesh that serves the real model, for all tests of a module: its tests run on the module's event loop."""
    environment = {"HEADRACE_SCHEDULE_MAX_SKEW": "0"}  # so that int8 output depends on the prompt alone
    folder = tmp_path_factory.mktemp("mesh")
    async with Processes(folder, models=smollm2.path.parent, environment=environment) as mesh:
        yield mesh


@pytest.fixture
def fake_store(tmp_path: Path) -> Callable[[float], Path]:
    """Makes a model store with the fake model, whose step takes the seconds that are given."""

    def make(step_s: float) -> Path:
        root = tmp_path / "models"
        install_fake_model(ModelStore(root), timing=FakeTiming(step_s=step_s))
        return root

    return make
