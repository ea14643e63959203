"""What the tests of the tasks besides generate share: a mesh that serves models of all three, and the engine itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from headrace.contract.work import Device
from headrace.models.framing import Framing
from headrace.models.store import ModelStore, StoredModel
from headrace.models.tokeniser import Tokeniser
from headrace.runtime.nats_server import EmbeddedNats
from headrace.worker.serving import Placing, ServingModel, load_model
from tests.integration.local_mesh import LocalMesh, local_mesh
from tests.models.tiny_tasks import install_tiny_encoder, install_tiny_translator

ENCODER, TRANSLATOR = "tiny-bert", "tiny-marian"
PLACING = Placing(
    device=Device(kind="cpu", compute_types=("float32",)),
    compute_type="float32",
    lanes=1,
    threads_per_lane=1,
)
SERVES: dict[str, Any] = {
    "worker.models": f"fake,{ENCODER},{TRANSLATOR}",
    "worker.max_batch": 4,
    "worker.piece_tokens": 64,
    "worker.quick_calibration_s": 0.2,
    "limits.max_texts": 100,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """A model with nothing around it."""

    stored: StoredModel
    serving: ServingModel
    tokeniser: Tokeniser
    framing: Framing


@pytest.fixture(scope="session")
def task_store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store with one tiny model of each of these tasks."""
    store = ModelStore(tmp_path_factory.mktemp("tasks") / "models")
    store.root.mkdir()
    install_tiny_encoder(store, ENCODER)
    install_tiny_translator(store, TRANSLATOR)
    return store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(nats_server: EmbeddedNats, task_store: ModelStore) -> AsyncIterator[LocalMesh]:
    """One worker that holds models of all three tasks."""
    async with local_mesh(task_store.root.parent, nats_server.url, **SERVES) as running:
        yield running


def direct(store: ModelStore, name: str) -> Iterator[Direct]:
    serving = load_model(store, name, PLACING)
    stored = store.open(name)
    tokeniser = Tokeniser.load(stored)
    yield Direct(
        stored=stored,
        serving=serving,
        tokeniser=tokeniser,
        framing=Framing.of(stored.manifest, tokeniser),
    )
    serving.engine.close()


@pytest.fixture(scope="module")
def encoder(task_store: ModelStore) -> Iterator[Direct]:
    yield from direct(task_store, ENCODER)


@pytest.fixture(scope="module")
def translator(task_store: ModelStore) -> Iterator[Direct]:
    yield from direct(task_store, TRANSLATOR)
