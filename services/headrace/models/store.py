"""The model store: a folder with one folder per model, each sealed by its manifest.

    <root>/<name>/                 an installed model: manifest.json and the files it lists
    <root>/.partial.<name>.<id>/   one being built; it is renamed to <name> when it is whole
    <root>/.replaced.<name>/       the former one while --force swaps it
    <root>/.locks/<name>           who may install <name>
    <root>/.downloads/             packages on their way (`headrace.models.download`)

A model's name holds no dot, so none of these can be taken for a model.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from headrace.contract.errors import UnknownModel
from headrace.contract.subjects import check_name, is_name
from headrace.models.errors import BadManifest, DamagedModel, StoreFailed
from headrace.models.manifest import MANIFEST_NAME, FileEntry, Manifest, read_manifest
from headrace.models.seal import digest_file, sync_folder, sync_tree

Builder = Callable[[Path], Manifest]
"""Writes a model's files into the folder and says what it is; the store adds `files` and `version`."""


def default_root() -> Path:
    """Where models are kept unless a setting says otherwise: under the user's cache directory."""
    return Path(platformdirs.user_cache_dir("headrace")) / "models"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """An installed model: what it is, and the folder where it lies (for ctranslate2 the model folder itself)."""

    manifest: Manifest
    path: Path

    @property
    def name(self) -> str:
        return self.manifest.name


class ModelStore:
    """The models under one root. Reading needs no lock: a model appears whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"ModelStore({str(self.root)!r}: {', '.join(self.names()) or 'empty'})"

    def names(self) -> Sequence[str]:
        """What is there, readable or damaged. Raises StoreFailed."""
        try:
            return sorted(p.name for p in self.root.iterdir() if is_name(p.name) and p.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreFailed(self.root, error.strerror or str(error)) from error

    def list(self) -> Sequence[Manifest]:
        """The manifests of all readable models, by name. Damaged manifests are left out: `open` tells about those."""
        manifests = []
        for name in self.names():
            with contextlib.suppress(BadManifest):
                manifests.append(read_manifest(self.root / name))
        return manifests

    def open(self, name: str) -> StoredModel:
        """The model `name`. Raises UnknownModel, or DamagedModel where its manifest is; `verify` looks at its files."""
        if not is_name(name) or not (self.root / name).is_dir():
            raise UnknownModel(name, self.names())
        folder = self.root / name
        try:
            manifest = read_manifest(folder)
        except BadManifest as error:
            raise DamagedModel(name, MANIFEST_NAME, error.reason) from error
        if manifest.name != name:
            raise DamagedModel(name, MANIFEST_NAME, f"it is the manifest of {manifest.name!r}")
        return StoredModel(manifest, folder)

    def verify(self, name: str, progress: Callable[[int, int], None] | None = None) -> StoredModel:
        """`open`, with every file present and of the size and SHA-256 of the manifest. Raises DamagedModel.

        `progress(bytes done, bytes in all)` is called as files are read.
        """
        model = self.open(name)
        done, total = 0, model.manifest.size
        for file, entry in model.manifest.files.items():
            path = model.path / file
            try:
                size = path.stat().st_size
            except OSError as error:
                raise DamagedModel(name, file, "missing") from error
            if size != entry.size:
                raise DamagedModel(name, file, f"{size} bytes instead of {entry.size}")
            if digest_file(path) != entry.sha256:
                raise DamagedModel(name, file, "its SHA-256 is not the one in the manifest")
            done += size
            if progress is not None:
                progress(done, total)
        return model

    @contextlib.contextmanager
    def locked(self, name: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Holds the right to install `name`; other processes wait. `waiting()` is called once if we do."""
        path = self.root / ".locks" / check_name("model", name)
        with _reporting(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            # The lock ends with the file; the file stays, since unlinking it would let a third process slip in.
            self._recover(name)
            yield

    def install(self, name: str, builder: Builder) -> StoredModel:
        """Builds a model and puts it in the place of any former one. Whoever looks sees the old, the new, or none.

        Takes the lock of `name`. Whatever `builder` raises comes through, and nothing is left behind.
        """
        with self.locked(name):
            return self.install_locked(name, builder)

    def install_locked(self, name: str, builder: Builder) -> StoredModel:
        """`install`, for a caller that is inside `locked(name)`."""
        with _reporting(self.root):
            partial = Path(tempfile.mkdtemp(prefix=f".partial.{name}.", dir=self.root))
            partial.chmod(0o755)
        try:
            manifest = builder(partial)
            if manifest.name != name:
                raise ValueError(f"the builder of {name!r} made a manifest of {manifest.name!r}")
            with _reporting(self.root):
                manifest = _seal(partial, manifest)
                self._swap(name, partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return StoredModel(manifest, self.root / name)

    def remove(self, name: str) -> None:
        """Deletes the model. Raises UnknownModel."""
        if not is_name(name) or not (self.root / name).is_dir():
            raise UnknownModel(name, self.names())
        with self.locked(name), _reporting(self.root):
            shutil.rmtree(self.root / name)

    def _swap(self, name: str, partial: Path) -> None:
        target, replaced = self.root / name, self._replaced(name)
        if target.exists():
            target.rename(replaced)
        partial.rename(target)
        sync_folder(self.root)
        shutil.rmtree(replaced, ignore_errors=True)

    def _recover(self, name: str) -> None:
        """Clears what an interrupted install of `name` left. Only with the lock: nobody else can be at work on it."""
        target, replaced = self.root / name, self._replaced(name)
        with _reporting(self.root):
            if replaced.exists() and not target.exists():
                replaced.rename(target)
        for leftover in (*self.root.glob(f".partial.{name}.*"), replaced):
            shutil.rmtree(leftover, ignore_errors=True)

    def _replaced(self, name: str) -> Path:
        return self.root / f".replaced.{name}"


def _seal(folder: Path, manifest: Manifest) -> Manifest:
    """Writes the manifest, last, over all files in `folder`, and has everything on disk before it returns."""
    files = {
        path.relative_to(folder).as_posix(): FileEntry(sha256=digest_file(path), size=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    sync_tree(folder)
    sealed = manifest.sealed(files)
    with (folder / MANIFEST_NAME).open("w", encoding="utf-8") as out:
        out.write(sealed.to_json())
        out.flush()
        os.fsync(out.fileno())
    sync_folder(folder)
    return sealed


@contextlib.contextmanager
def _reporting(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreFailed(root, error.strerror or str(error)) from error
