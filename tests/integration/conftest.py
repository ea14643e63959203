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
    async with Processes(tmp_path_factory.mktemp("mesh"), models=smollm2.path.parent) as mesh:
        yield mesh


@pytest.fixture
def fake_store(tmp_path: Path) -> Callable[[float], Path]:
    """Makes a model store with the fake model, whose step takes the seconds that are given."""

    def make(step_s: float) -> Path:
        root = tmp_path / "models"
        install_fake_model(ModelStore(root), timing=FakeTiming(step_s=step_s))
        return root

    return make
