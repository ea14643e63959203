"""`headrace model push, deploy, ps, undeploy, remove` as a person meets them, on a real broker without a mesh."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import nats
import pytest
from typer.testing import CliRunner, Result

from headrace.cli.model import app
from headrace.contract.deployments import ModelState, NodeModel, NodeReport
from headrace.contract.deployments_document import write_document
from headrace.contract.subjects import MEMBERS_BUCKET
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore, StoredModel
from headrace.models.uses import begin_use
from headrace.runtime.kv_view import write_key
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats


@pytest.fixture
def chat(
    fresh_nats: EmbeddedNats, settings_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StoredModel:
    """A model in the store of this machine, and a broker with its buckets, both named by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HEADRACE_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("HEADRACE_NATS_URL", fresh_nats.url)
    on_broker(fresh_nats.url, lambda nc: ensure_layout(nc, settings_for(fresh_nats)))
    return install_fake_model(ModelStore(tmp_path / "store"), "chat")


def on_broker(url: str, ask: Any) -> None:
    async def run() -> None:
        nc = await nats.connect(url)
        try:
            await ask(nc)
        finally:
            await nc.close()

    asyncio.run(run())


def model(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(result: Result, *words: str) -> bool:
    """It failed with one line that holds the words."""
    return result.exit_code != 0 and result.stderr.count("\n") == 1 and all(w in result.stderr for w in words)


def test_from_push_to_remove(chat: StoredModel, fresh_nats: EmbeddedNats) -> None:
    """Each says what it did, and what stands in the way of the next."""
    assert refused(model("deploy", "nobody"), "nobody", "headrace model push")
    unpushed = model("deploy", "chat")
    assert unpushed.exit_code == 0
    assert "It is not pushed" in unpushed.stderr
    pushed = model("push", "chat")
    assert (pushed.exit_code, f"{chat.reference} is in the mesh" in pushed.stderr) == (0, True)
    assert "(0.0 of" in model("push", "chat").stderr
    deployed = model("deploy", "chat", "--label", "zone=a", "--replicas", "0", "--compute-type", "int8")
    assert f"{chat.reference} is wanted as chat on each node" in deployed.stderr
    (nowhere,) = json.loads(model("ps", "--json").stdout)["models"]
    assert (nowhere["state"], nowhere["problem"]) == ("absent", "no router has placed it yet")
    assert refused(model("remove", "chat", "--pushed"), "it is deployed", "headrace model undeploy chat")
    assert model("undeploy", "chat").exit_code == 0
    assert refused(model("undeploy", "chat"), "chat is not deployed", "none")
    assert model("remove", f"chat@{chat.manifest.version[:6]}", "--pushed").exit_code == 0
    assert refused(model("remove", "chat", "--pushed"), "not in the NATS object store")


def test_ps_shows_what_the_nodes_say(chat: StoredModel, fresh_nats: EmbeddedNats) -> None:
    """State, memory and speed of each model on each node, and the memory that is left there."""
    models = (
        NodeModel(
            reference="chat",
            version=chat.manifest.version,
            state=ModelState.READY,
            compute_type="int8",
            memory_bytes=123_000_000,
            tokens_per_s=45.4,
            own=True,
        ),
        NodeModel(reference="big", version="0" * 12, state=ModelState.FETCHING, progress=0.42),
        NodeModel(reference="huge", version="1" * 12, state=ModelState.FAILED, problem="too large"),
    )
    report = NodeReport(node="w-1", memory_bytes=2_000_000_000, free_bytes=900_000_000, models=models)
    on_broker(fresh_nats.url, lambda nc: write_key(nc, MEMBERS_BUCKET, "worker.w-1", write_document(report)))
    shown = model("ps").stdout
    for words in ("ready (worker.models)", "123 MB", "45", "fetching 42 %", "failed: too large"):
        assert words in shown
    assert "w-1: cpu, 900 MB of 2000 MB free for models" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("deploy", "a.b"), ("reference", "NAME@VERSION")),
        (("deploy", "chat", "--replicas", "10001"), ("replicas", "10000")),
        (("deploy", "chat", "--device", "tpu"), ("device", "cuda")),
        (("deploy", "chat", "--compute-type", "in/t8"), ("compute_type",)),
        (("push", "chat@ffffffffffff"), ("unknown model", "chat@")),
        (("remove", "chat@ffffffffffff"), ("unknown model", "chat@")),
    ],
)
def test_bad_input_names_its_field(
    chat: StoredModel, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """And nothing is written."""
    assert refused(model(*arguments), *words)
    assert json.loads(model("ps", "--json").stdout)["models"] == []


def test_a_version_that_is_in_use_is_not_removed(chat: StoredModel, tmp_path: Path) -> None:
    """Nor is its name; one that nobody uses goes, and the other stays what the name means."""
    store = ModelStore(tmp_path / "store")
    other = install_fake_model(store, "chat", timing=FakeTiming(step_s=0.5))
    use = begin_use(store, other)
    assert refused(model("remove", other.reference), "has it loaded")
    assert model("remove", chat.reference).exit_code == 0
    assert f"chat@{chat.manifest.version}" not in model("list").stdout
    assert store.verify("chat") == other
    use.end()
    assert model("remove", "chat").exit_code == 0
    assert list(store.versions()) == []


def test_versions_are_listed_under_their_reference(chat: StoredModel, tmp_path: Path) -> None:
    """What the name means stands under the bare name."""
    new = install_fake_model(ModelStore(tmp_path / "store"), "chat", timing=FakeTiming(step_s=0.5))
    listed = {(m["version"], m["meant_by_name"]) for m in json.loads(model("list", "--json").stdout)}
    assert listed == {(new.manifest.version, True), (chat.manifest.version, False)}
    assert chat.reference in model("list").stdout
