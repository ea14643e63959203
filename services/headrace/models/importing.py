"""`headrace model import`: a model from a file or folder of one's own into the store."""

from __future__ import annotations

import enum
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import is_name
from headrace.models.checkpoint import read_checkpoint
from headrace.models.ctranslate2_import import import_engine_folder
from headrace.models.engine_file import MODEL_NAME
from headrace.models.errors import BadCheckpoint, StoreFailed, UnsupportedModel
from headrace.models.gguf_file import GgufFile
from headrace.models.gguf_import import import_gguf
from headrace.models.gguf_tensors import BYTES_PER_WEIGHT, QUANTISATIONS, Quantisation
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore, StoredModel
from headrace.models.transformers_import import import_checkpoint

Progress = Callable[[int, int], None]
"""Called with (done, all): tensors, and bytes where a model is copied as it is."""

_SPARE_BYTES = 32 << 20
"""For the vocabulary and what else there is beside the weights."""


class SourceKind(enum.Enum):
    """What a path holds."""

    GGUF = "a GGUF file"
    CHECKPOINT = "a Hugging Face folder"
    ENGINE = "a CTranslate2 folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A file or folder to import, and what was said about it. None: as the source has it, or the default."""

    path: Path
    name: str | None = None
    quantisation: str | None = None
    licence: str | None = None
    context_length: int | None = None
    """Tokens; only for a CTranslate2 folder that does not say."""
    with_template: bool = True
    """Whether it keeps its chat template, which then has to be one that can be used."""


def import_model(
    store: ModelStore, asked: ModelSource, progress: Progress, *, force: bool = False
) -> StoredModel:
    """Has the model in the store, whole, or leaves the store as it was.

    Raises InvalidRequest for what was asked for, and BadGguf, BadCheckpoint, BadTokeniser, UnsupportedModel,
    BadTemplate, MissingExtra or StoreFailed for what was found.
    """
    kind, path = find_source(asked.path)
    name = asked.name or name_of(path)
    if not is_name(name):
        raise InvalidRequest("name", f"{name!r} has characters other than letters, digits, _ and -")
    quantisation = _choose_quantisation(kind, asked)
    _check_length(kind, asked)
    with store.locked(name):
        if not force and name in store.names():
            raise InvalidRequest(
                "name", f"the store has a model {name!r}; choose another name, or replace it with --force"
            )
        _check_room(store, kind, path, quantisation)

        def build(folder: Path) -> Manifest:
            return _build(kind, path, folder, name, quantisation, asked, progress)

        try:
            return store.install_locked(name, build)
        except OSError as error:
            raise StoreFailed(store.root, error.strerror or str(error)) from error


def find_source(path: Path) -> tuple[SourceKind, Path]:
    """What is at `path`; a folder with a single GGUF file is that file. Raises InvalidRequest, BadCheckpoint."""
    if not path.exists():
        raise InvalidRequest("source", f"{path} does not exist")
    if path.is_file():
        return SourceKind.GGUF, path
    if (path / MODEL_NAME).exists():
        return SourceKind.ENGINE, path
    if (path / "config.json").exists():
        return SourceKind.CHECKPOINT, path
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return SourceKind.GGUF, files[0]
    if files:
        raise InvalidRequest("source", f"{path} has {len(files)} GGUF files: name one")
    raise BadCheckpoint(path, f"it has neither {MODEL_NAME} (CTranslate2) nor config.json (Hugging Face)")


def name_of(path: Path) -> str:
    """A model's name from that of its file or folder: lower case, without what a name may not have."""
    stem = path.stem if path.is_file() else path.resolve().name
    return re.sub(r"[^a-z0-9_]+", "-", stem.lower()).strip("-") or "model"


def _choose_quantisation(kind: SourceKind, asked: ModelSource) -> Quantisation | None:
    if kind is SourceKind.ENGINE:
        if asked.quantisation is not None:
            raise InvalidRequest("quantization", "a CTranslate2 folder is taken as it is")
        return None
    wanted = asked.quantisation or "int8"
    for known in QUANTISATIONS:
        if wanted == known:
            return known
    raise InvalidRequest("quantization", f"{wanted!r}; known are {', '.join(QUANTISATIONS)}")


def _check_length(kind: SourceKind, asked: ModelSource) -> None:
    if asked.context_length is None:
        return
    if kind is not SourceKind.ENGINE:
        raise InvalidRequest("context-length", f"{kind.value} says itself how long its context is")
    if asked.context_length < 1:
        raise InvalidRequest("context-length", "must be at least 1")


def _check_room(store: ModelStore, kind: SourceKind, path: Path, quantisation: Quantisation | None) -> None:
    """Before anything is computed: whether the disk has room for the result."""
    if kind is SourceKind.GGUF:
        weights = _weights_in(path) * BYTES_PER_WEIGHT[quantisation or "int8"]
    elif kind is SourceKind.CHECKPOINT:
        read_checkpoint(path)  # what cannot be converted is said first
        # Mostly two bytes a weight there; never less than what comes out of that.
        size = sum(f.stat().st_size for pattern in ("*.safetensors", "*.bin") for f in path.glob(pattern))
        weights = size * BYTES_PER_WEIGHT[quantisation or "int8"] // 2
    else:
        weights = (path / MODEL_NAME).stat().st_size
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(store.root).free
    except OSError as error:
        raise StoreFailed(store.root, error.strerror or str(error)) from error
    if free < (needed := weights + _SPARE_BYTES):
        raise StoreFailed(
            store.root, f"about {needed / 1e6:.0f} MB are needed, and the disk has {free / 1e6:.0f} MB left"
        )


def _weights_in(path: Path) -> int:
    file = GgufFile(path)
    if file.get("split.count", int, 1) > 1:
        raise UnsupportedModel(
            path.name, "it is one of several parts: join them first (llama-gguf-split --merge)"
        )
    return file.weights


def _build(
    kind: SourceKind,
    path: Path,
    folder: Path,
    name: str,
    quantisation: Quantisation | None,
    asked: ModelSource,
    progress: Progress,
) -> Manifest:
    source = f"file:{path.name}"
    if kind is SourceKind.ENGINE:
        return import_engine_folder(
            path,
            folder,
            name=name,
            source=source,
            licence=asked.licence,
            context_length=asked.context_length,
            progress=progress,
            with_template=asked.with_template,
        )
    assert quantisation is not None
    convert = import_gguf if kind is SourceKind.GGUF else import_checkpoint
    return convert(
        path,
        folder,
        name=name,
        source=source,
        licence=asked.licence or "unknown",
        progress=progress,
        quantisation=quantisation,
        with_template=asked.with_template,
    )
