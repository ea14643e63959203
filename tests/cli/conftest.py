"""What the tests of the command line share: a store that holds a fake model, and a mesh of real processes on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.cli.running import Running

STEP_S = 0.02


@pytest.fixture(scope="session")
def fake_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with `fake` alone, at 50 tokens a second: slow enough to be met in the middle."""
    root = tmp_path_factory.mktemp("store")
    install_fake_model(ModelStore(root), timing=FakeTiming(step_s=STEP_S))
    return root


@pytest.fixture(scope="module")
def mesh(fake_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`headrace up` with the fake model, ready; shared by a module."""
    with Running.up(fake_store, tmp_path_factory.mktemp("state")) as running:
        running.wait_for("Ctrl-C drains")
        yield running
