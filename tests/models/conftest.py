"""What the tests of models share: stores, a small tokeniser, a package index, and the real model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.models.gguf_file import GgufFile
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from headrace.models.vocabulary import read_vocabulary
from tests.models.package_index import PackageIndex
from tests.models.tiny_gguf import TinyLlama


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyLlama.random().write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_tokeniser(tiny_gguf: Path) -> Tokeniser:
    """Bytes, six merges, three special tokens."""
    return Tokeniser(read_vocabulary(GgufFile(tiny_gguf)).tokenizer)


@pytest.fixture
def package_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """An index that is the only one pip knows. Wheels are put into its `folder`."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    folder = tmp_path / "index"
    folder.mkdir()
    with PackageIndex(folder) as index:
        monkeypatch.setenv("HEADRACE_PYPI_INDEX", index.url)
        yield index
