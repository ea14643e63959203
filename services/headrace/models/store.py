"""The model store: a folder with one folder per version of a model, each sealed by its manifest.

    <root>/<name>@<version>/       one version, which never changes: manifest.json and the files it lists
    <root>/<name>                  a link to the version that the name means, or a folder from before versions
    <root>/.partial.<name>.<id>/   one being built; it is renamed when it is whole
    <root>/.replaced.<name>/       what takes its place while it goes
    <root>/.link.<name>            the link while it changes
    <root>/.locks/<name>           who may install <name>
    <root>/.uses/<name>@<version>  held by whoever works with a version (`headrace.models.uses`)
    <root>/.downloads/             packages on their way (`headrace.models.download`)
    <root>/.fetching/              versions on their way from the broker (`headrace.models.fetch`)

A model's name holds no dot and no @, so none of these can be taken for one. A folder from before there were versions is
moved over when its name gets another version.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from headrace.contract.errors import InvalidRequest, UnknownModel
from headrace.contract.references import Reference, parse_reference
from headrace.contract.subjects import check_name, is_name
from headrace.models.errors import BadManifest, DamagedModel, StoreFailed
from headrace.models.manifest import MANIFEST_NAME, Manifest, read_manifest
from headrace.models.seal import digest_file, seal_folder, sync_folder

Builder = Callable[[Path], Manifest]
"""Writes a model's files into the folder and says what it is; the store adds `files` and `version`."""


def default_root() -> Path:
    """Where models are kept unless a setting says otherwise: under the user's cache directory."""
    return Path(platformdirs.user_cache_dir("headrace")) / "models"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A version that is here: what it is, and the folder where it lies (for ctranslate2 the model folder itself)."""

    manifest: Manifest
    path: Path

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.manifest.name}@{self.manifest.version}"


class ModelStore:
    """The models under one root. Reading needs no lock: a version appears whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"ModelStore({str(self.root)!r}: {', '.join(self.names()) or 'empty'})"

    def names(self) -> Sequence[str]:
        """The names that mean a version here, readable or damaged. Raises StoreFailed."""
        return sorted(name for name in self._folders() if is_name(name))

    def list(self) -> Sequence[Manifest]:
        """What the names mean, by name. Damaged manifests are left out: `open` tells about those."""
        manifests = []
        for name in self.names():
            with contextlib.suppress(BadManifest):
                manifests.append(read_manifest(self.root / name))
        return manifests

    def versions(self) -> Sequence[StoredModel]:
        """All readable versions, by name and version, whether a name means them or not."""
        found: dict[str, StoredModel] = {}
        for folder in self._folders():
            path = self.root / folder
            with contextlib.suppress(BadManifest):
                model = StoredModel(read_manifest(path), path)
                if not path.is_symlink() and folder in (model.name, model.reference):
                    found[model.reference] = model
        return [found[reference] for reference in sorted(found)]

    def open(self, reference: str) -> StoredModel:
        """What `reference` means: a name, or `name@` and the first digits of a version.

        Raises UnknownModel, InvalidRequest where the digits mean several versions, or DamagedModel where its manifest
        is; `verify` looks at its files.
        """
        try:
            asked = parse_reference(reference)
        except InvalidRequest:
            raise UnknownModel(reference, self.names()) from None
        path = self._folder_of(asked)
        try:
            manifest = read_manifest(path)
        except BadManifest as error:
            raise DamagedModel(asked.name, MANIFEST_NAME, error.reason) from error
        if manifest.name != asked.name:
            raise DamagedModel(asked.name, MANIFEST_NAME, f"it is the manifest of {manifest.name!r}")
        if not manifest.version.startswith(asked.version):
            raise DamagedModel(asked.name, MANIFEST_NAME, f"it is that of version {manifest.version}")
        return StoredModel(manifest, path)

    def verify(self, reference: str, progress: Callable[[int, int], None] | None = None) -> StoredModel:
        """`open`, with every file present and of the size and SHA-256 of the manifest, and these of the version.

        Raises DamagedModel. `progress(bytes done, bytes in all)` is called as files are read.
        """
        model = self.open(reference)
        verify_files(model.path, model.manifest, progress)
        return model

    @contextlib.contextmanager
    def locked(self, name: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Holds the right to install `name`; other processes wait. `waiting()` is called once if we do."""
        path = self.root / ".locks" / check_name("model", name)
        with reporting(self.root):
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
        """Builds a model, which its name means from then on. Whoever looks sees the old, the new, or none.

        The version that the name meant before stays. Takes the lock of `name`. Whatever `builder` raises comes through,
        and nothing is left behind.
        """
        with self.locked(name):
            return self.install_locked(name, builder)

    def install_locked(self, name: str, builder: Builder) -> StoredModel:
        """`install`, for a caller that is inside `locked(name)`."""
        with reporting(self.root):
            partial = Path(tempfile.mkdtemp(prefix=f".partial.{name}.", dir=self.root))
            partial.chmod(0o755)
        try:
            manifest = builder(partial)
            if manifest.name != name:
                raise ValueError(f"the builder of {name!r} made a manifest of {manifest.name!r}")
            with reporting(self.root):
                manifest = seal_folder(partial, manifest)
                model = self.admit_locked(partial, manifest)
                self._let_mean(name, model.path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return model

    def admit_locked(self, folder: Path, manifest: Manifest) -> StoredModel:
        """Takes in a sealed folder beside the root's others, in the place of the same version if that is here; what the
        name means stays as it is. For a caller that is inside `locked(manifest.name)`.
        """
        with reporting(self.root):
            self._move_over(manifest.name)
            target, replaced = (
                self.root / f"{manifest.name}@{manifest.version}",
                self._replaced(manifest.name),
            )
            if target.exists():
                target.rename(replaced)
            folder.rename(target)
            sync_folder(self.root)
            shutil.rmtree(replaced, ignore_errors=True)
        return StoredModel(manifest, target)

    def remove(self, reference: str) -> None:
        """Deletes a version, and its name where that means it; for a bare name all that there is under it.

        Raises UnknownModel. Whether somebody works with it is for the caller to ask first (`headrace.models.uses`).
        """
        asked = parse_reference(reference) if "@" in reference else Reference(reference)
        if not is_name(asked.name):
            raise UnknownModel(reference, self.names())
        with self.locked(asked.name), reporting(self.root):
            folders = [self._folder_of(asked)] if asked.version else self._all_of(asked.name)
            if not folders:
                raise UnknownModel(reference, self.names())
            name = self.root / asked.name
            for folder in folders:
                if name.is_symlink() and (self.root / name.readlink()) == folder:
                    name.unlink()
                replaced = self._replaced(asked.name)
                folder.rename(replaced)
                shutil.rmtree(replaced)
            if not asked.version and name.is_symlink():  # it led nowhere
                name.unlink()

    def _folders(self) -> Sequence[str]:
        try:
            return [p.name for p in self.root.iterdir() if not p.name.startswith(".") and p.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreFailed(self.root, error.strerror or str(error)) from error

    def _all_of(self, name: str) -> Sequence[Path]:
        """The folders of all versions of a name."""
        folders = [self.root / folder for folder in self._folders() if folder.partition("@")[0] == name]
        return [folder for folder in folders if not folder.is_symlink()]

    def _folder_of(self, asked: Reference) -> Path:
        """Raises UnknownModel, or InvalidRequest where it is one of several."""
        name = self.root / asked.name
        if not asked.version:
            if not name.is_dir():
                raise UnknownModel(asked.name, self.names())
            return self.root / name.readlink() if name.is_symlink() else name
        there = {path.name.partition("@")[2] or _version_in(path): path for path in self._all_of(asked.name)}
        found = {version: path for version, path in there.items() if version.startswith(asked.version)}
        if not found:
            raise UnknownModel(str(asked), [f"{asked.name}@{version}" for version in there] or self.names())
        if len(found) > 1:
            raise InvalidRequest("model", f"{asked} may be {', '.join(sorted(found))}: give more digits")
        return next(iter(found.values()))

    def _let_mean(self, name: str, folder: Path) -> None:
        """Has the name mean that version, in one step."""
        link = self.root / f".link.{name}"
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name, target_is_directory=True)
        link.rename(self.root / name)
        sync_folder(self.root)

    def _move_over(self, name: str) -> None:
        """Makes a version, and a link to it, of a folder from before there were versions."""
        old, link = self.root / name, self.root / f".link.{name}"
        if old.is_symlink() or not old.is_dir():
            return
        version = _version_in(old)
        if not version:  # nobody can say what it is
            shutil.rmtree(old)
            return
        link.unlink(missing_ok=True)
        link.symlink_to(f"{name}@{version}", target_is_directory=True)
        old.rename(self.root / f"{name}@{version}")
        link.rename(old)
        sync_folder(self.root)

    def _recover(self, name: str) -> None:
        """Clears what an interrupted install of `name` left. Only with the lock: nobody else can be at work on it."""
        target, replaced, link = self.root / name, self._replaced(name), self.root / f".link.{name}"
        with reporting(self.root):
            if replaced.is_dir() and (version := _version_in(replaced)):
                former = self.root / f"{name}@{version}"
                if not former.exists() and (not target.exists() or target.is_symlink()):
                    replaced.rename(former if target.is_symlink() else target)
            if link.is_symlink():
                if not target.exists() and (self.root / link.readlink()).is_dir():
                    link.rename(target)
                else:
                    link.unlink()
        for leftover in (*self.root.glob(f".partial.{name}.*"), replaced):
            shutil.rmtree(leftover, ignore_errors=True)

    def _replaced(self, name: str) -> Path:
        return self.root / f".replaced.{name}"


def verify_files(
    folder: Path, manifest: Manifest, progress: Callable[[int, int], None] | None = None
) -> None:
    """Raises DamagedModel unless `folder` holds what the manifest lists, and that is its version."""
    done, total = 0, manifest.size
    for file, entry in manifest.files.items():
        path = folder / file
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DamagedModel(manifest.name, file, "missing") from error
        if size != entry.size:
            raise DamagedModel(manifest.name, file, f"{size} bytes instead of {entry.size}")
        if digest_file(path) != entry.sha256:
            raise DamagedModel(manifest.name, file, "its SHA-256 is not the one in the manifest")
        done += size
        if progress is not None:
            progress(done, total)
    if manifest.sealed(manifest.files).version != manifest.version:
        raise DamagedModel(manifest.name, MANIFEST_NAME, "its version is not that of the files it lists")


def _version_in(folder: Path) -> str:
    """Of the manifest in it, "" where that cannot be read."""
    try:
        return read_manifest(folder).version
    except BadManifest:
        return ""


@contextlib.contextmanager
def reporting(root: Path) -> Iterator[None]:
    """Turns what the system says into StoreFailed."""
    try:
        yield
    except OSError as error:
        raise StoreFailed(root, error.strerror or str(error)) from error
