"""A version from the bucket into the store: verified, whole or not at all, and going on where an earlier try broke.

<root>/.fetching/<name>@<version>/files/…              files that are whole
<root>/.fetching/<name>@<version>/parts/<digest>       one on its way, and beside it where it goes on
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from headrace.contract.errors import UnknownModel
from headrace.models.bucket import BucketObject, FilesBucket, blob_name
from headrace.models.errors import DamagedModel, DamagedObject, ModelNotFound, NoRoom, StoreFailed
from headrace.models.manifest import FileEntry, Manifest
from headrace.models.push import pushed_manifest
from headrace.models.room import DiskLimits, make_room
from headrace.models.seal import sync_tree, write_manifest
from headrace.models.store import ModelStore, StoredModel

Progress = Callable[[int, int], None]
"""Called with (bytes that are here, bytes in all)."""

_LOCK_POLL_S = 0.3
"""Between two looks whether another process has fetched it: file locks tell nobody, and a thread that waits for one
could not be cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What a fetch may take of the disk, and the `name@version` that must stay there."""

    limits: DiskLimits
    wanted: Callable[[], Collection[str]]


async def fetch(
    store: ModelStore,
    bucket: FilesBucket,
    name: str,
    version: str,
    rules: FetchRules,
    progress: Progress | None = None,
) -> StoredModel:
    """Has the version in the store, where it is not there yet. What the name means here stays as it is.

    Raises ModelNotFound where the bucket has it not either, DamagedObject where that has something else, NoRoom,
    StoreFailed, and Unavailable where the broker is away: the next call goes on where this one broke.
    """
    reference = f"{name}@{version}"
    async with _alone(store, reference):
        try:
            return await asyncio.to_thread(store.open, reference)
        except (UnknownModel, DamagedModel):
            pass
        manifest = await pushed_manifest(bucket, name, version)
        if manifest is None:
            raise ModelNotFound(
                reference, "is not in the NATS object store, where headrace model push puts it"
            )
        folder = store.root / ".fetching" / reference
        there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        needed = max(0, manifest.size - there)
        await asyncio.to_thread(make_room, store, reference, needed, rules.limits, wanted=rules.wanted())
        try:
            await fetch_files(bucket, manifest, folder, list(manifest.files), progress or _silent)
            return await asyncio.to_thread(_admit, store, manifest, folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                shutil.rmtree(folder, ignore_errors=True)  # so that others have room
                raise NoRoom(reference, manifest.size, "the disk is full") from error
            raise StoreFailed(store.root, error.strerror or str(error)) from error


async def fetch_files(
    bucket: FilesBucket, manifest: Manifest, folder: Path, files: Collection[str], progress: Progress
) -> None:
    """Has those of the manifest's files under `folder`/files, each of its SHA-256."""
    total = sum(manifest.files[file].size for file in files)
    done = 0
    for file in files:
        entry = manifest.files[file]
        target = folder / "files" / file
        if not target.exists():

            def told(there: int, before: int = done) -> None:
                progress(before + there, total)

            await _fetch_file(bucket, manifest, file, entry, folder, told)
        done += entry.size
        progress(done, total)


async def _fetch_file(
    bucket: FilesBucket,
    manifest: Manifest,
    file: str,
    entry: FileEntry,
    folder: Path,
    told: Callable[[int], None],
) -> None:
    reference = f"{manifest.name}@{manifest.version}"
    found = await bucket.find(blob_name(entry.sha256))
    if found is None or found.size != entry.size:
        reason = "missing" if found is None else f"{found.size} bytes instead of {entry.size}"
        raise DamagedObject(reference, file, reason)
    part, reason = _Part(folder / "parts" / entry.sha256), ""
    with part.open() as out:
        try:
            digest = await _read_on(bucket, found, part, out, told)
        except _TooLong:
            reason = "its pieces are more than its size"
        else:
            if out.tell() < entry.size:
                reason = f"{out.tell()} bytes instead of {entry.size}"
            elif digest != entry.sha256:
                reason = "its SHA-256 is not the one in the manifest"
        await asyncio.to_thread(os.fsync, out.fileno())
    if reason:
        part.discard()
        raise DamagedObject(reference, file, reason)
    target = folder / "files" / file
    target.parent.mkdir(parents=True, exist_ok=True)
    part.path.rename(target)
    part.discard()


class _TooLong(Exception):
    """There are more pieces than there should be."""


async def _read_on(
    bucket: FilesBucket, found: BucketObject, part: _Part, out: IO[bytes], told: Callable[[int], None]
) -> str:
    """Writes what is missing, and gives the SHA-256 of it all."""
    first = part.goes_on_at(out)
    digest = await asyncio.to_thread(_digest_so_far, out)
    more = out.tell() < found.size
    while more:
        page = await bucket.page(found, first)
        if not page.messages:
            break
        content = b"".join(piece.data for piece in page.messages)
        first = page.messages[-1].number + 1
        if out.tell() + len(content) > found.size:
            raise _TooLong

        def take(content: bytes = content, first: int = first) -> None:
            digest.update(content)
            out.write(content)
            out.flush()
            part.note(out.tell(), first)

        await asyncio.to_thread(take)
        told(out.tell())
        more = page.more and out.tell() < found.size
    return digest.hexdigest()


def _digest_so_far(out: IO[bytes]) -> hashlib._Hash:
    digest, end = hashlib.sha256(), out.tell()
    out.seek(0)
    while out.tell() < end and (block := out.read(min(1 << 20, end - out.tell()))):
        digest.update(block)
    return digest


class _Part:
    """A file on its way. Beside it lies how much of it is good, and which of the broker's messages comes next: what a
    kill leaves beyond that is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes = path.with_name(f"{path.name}.json")

    def open(self) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        return self.path.open("r+b")

    def goes_on_at(self, out: IO[bytes]) -> int:
        """The number of the next message; `out` stands where it goes."""
        size, number = 0, 1
        try:
            noted = json.loads(self._notes.read_text())
            if 0 <= int(noted["size"]) <= self.path.stat().st_size:
                size, number = int(noted["size"]), int(noted["next"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        out.truncate(size)
        out.seek(size)
        return number

    def note(self, size: int, number: int) -> None:
        self._notes.write_text(json.dumps({"size": size, "next": number}))

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)


def _admit(store: ModelStore, manifest: Manifest, folder: Path) -> StoredModel:
    files = folder / "files"
    sync_tree(files)
    write_manifest(files, manifest)
    with store.locked(manifest.name):
        model = store.admit_locked(files, manifest)
    shutil.rmtree(folder, ignore_errors=True)
    return model


@asynccontextmanager
async def _alone(store: ModelStore, reference: str) -> AsyncIterator[None]:
    """Holds the right to fetch a version on this machine."""
    path = store.root / ".locks" / f"fetch.{reference}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise StoreFailed(store.root, error.strerror or str(error)) from error
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_S)
        yield


def _silent(done: int, total: int) -> None:
    pass
