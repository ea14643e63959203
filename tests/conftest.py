"""What tests of all packages share: a real nats-server, and settings that point at it."""

from __future__ import annotations

import os
import signal

# A shell that starts this in the background has it ignore Ctrl-C, and with it each process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Before gRPC is imported: its handling of forks can crash the processes that tests start, at their start.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from headrace.models.pull import pull
from headrace.models.store import ModelStore, StoredModel, default_root
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings, Settings, load_settings

# How long an example takes says something about the machine, and about who else works on it.
hypothesis_settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("headrace")

SettingsFor = Callable[..., Settings]


@pytest.fixture(autouse=True)
def no_headrace_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HEADRACE_ setting of the machine reaches a test, except where the model store is."""
    for name in [name for name in os.environ if name.startswith("HEADRACE_") and name != "HEADRACE_MODELS"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    """One real nats-server for the whole session, for tests that do not mind what others left on it. Has `.url`."""
    with EmbeddedNats(NatsSettings(port=0, store_dir=tmp_path_factory.mktemp("nats"))) as server:
        yield server


@pytest.fixture
def fresh_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A real nats-server with an empty store, for this test alone. Has `.url`."""
    with EmbeddedNats(NatsSettings(port=0, store_dir=tmp_path / "nats")) as server:
        yield server


@pytest.fixture
def settings_for() -> SettingsFor:
    """`settings_for(server, **{"router.port": 0})`: settings that use `server`, and defaults for all else."""

    def make(server: EmbeddedNats, **overrides: object) -> Settings:
        return load_settings({"nats.url": server.url, **overrides}, environ={})

    return make


@pytest.fixture(scope="session")
def smollm2() -> StoredModel:
    """The real model, from the model store; pulled where it is not there yet."""
    root = Path(os.environ.get("HEADRACE_MODELS") or default_root())
    return pull(ModelStore(root), "smollm2").model


@pytest.fixture(scope="session")
def minilm() -> StoredModel:
    """The real model that embeds, pulled where it is not there yet. In a store of its own, so that the meshes of other
    tests, which serve all that is in theirs, do not load it.
    """
    root = Path(os.environ.get("HEADRACE_MODELS") or default_root())
    return pull(ModelStore(root.with_name(f"{root.name}-minilm")), "minilm").model
