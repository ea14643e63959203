"""`headrace model push`: a version from the store into the bucket, piece by piece; what is there already is not sent
again, and a push that broke goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.models.bucket import FilesBucket, blob_name, blob_pieces
from headrace.models.errors import DamagedObject, ModelError
from headrace.models.manifest import FileEntry, Manifest, parse_manifest
from headrace.models.store import StoredModel

Progress = Callable[[int, int], None]
"""Called with (bytes that the broker has, bytes in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push came to; bytes."""

    reference: str
    size: int
    sent: int
    """The others were there."""


async def push(
    bucket: FilesBucket, model: StoredModel, progress: Progress | None = None, *, force: bool = False
) -> Pushed:
    """Puts a verified version into the bucket; its name means it there from then on. With `force` everything is sent
    anew. Raises Unavailable, BucketFull; then what was sent stays, and the next push goes on after it.
    """
    manifest, report = model.manifest, progress or _silent
    done = sent = 0
    for file, entry in _each_content(manifest):

        def told(bytes_there: int, before: int = done) -> None:
            report(before + bytes_there, manifest.size)

        sent += await _push_file(bucket, model.path / file, entry, told, force=force)
        done += entry.size
        report(done, manifest.size)
    await bucket.write(model.reference, manifest.to_json().encode())
    await bucket.write(manifest.name, manifest.version.encode())
    return Pushed(reference=model.reference, size=manifest.size, sent=sent)


def _each_content(manifest: Manifest) -> list[tuple[str, FileEntry]]:
    seen = {entry.sha256: (file, entry) for file, entry in manifest.files.items()}
    return sorted(seen.values(), key=lambda item: item[1].size)


async def _push_file(
    bucket: FilesBucket, path: Path, entry: FileEntry, told: Callable[[int], None], *, force: bool
) -> int:
    """Bytes that had to be sent."""
    subject, size = blob_pieces(entry.sha256), bucket.piece_bytes
    pieces = -(-entry.size // size)
    there = await bucket.sent(subject)
    with path.open("rb") as file:
        file.seek(max(0, there.count - 1) * size)
        whole = there.count <= pieces and await asyncio.to_thread(file.read, size) == there.last
        if there.count and (force or not whole):  # of another size of piece, or nobody knows what
            await bucket.purge(subject)
        if force or not whole:
            number, start = 0, 0
        else:
            number, start = there.number, there.count
        file.seek(start * size)
        for index in range(start, pieces):
            number = await bucket.send(subject, await asyncio.to_thread(file.read, size), number)
            told(min(entry.size, (index + 1) * size))
    await bucket.describe(blob_name(entry.sha256), entry.sha256, entry.size, bytes.fromhex(entry.sha256))
    return max(0, entry.size - start * size)


async def pushed_version(bucket: FilesBucket, name: str, digits: str = "") -> str | None:
    """The version in the bucket that begins with `digits`, or the last that was pushed; None where there is none.

    Raises DamagedObject where the digits begin several.
    """
    if not digits:
        body = await bucket.read(name)
        return None if body is None else body.decode(errors="replace")[:64]
    prefix = f"{name}@{digits}"
    found = sorted(there for there in await bucket.names() if there.startswith(prefix))
    if len(found) > 1:
        raise DamagedObject(prefix, "manifest", f"it may be {', '.join(found)}")
    return found[0].partition("@")[2] if found else None


async def pushed_manifest(bucket: FilesBucket, name: str, version: str) -> Manifest | None:
    """The manifest of a version in the bucket, which is of that name and version; None where there is none.

    Raises DamagedObject where it is not.
    """
    reference = f"{name}@{version}"
    body = await bucket.read(reference)
    if body is None:
        return None
    try:
        manifest = parse_manifest(body.decode(), Path(reference))
    except (ValueError, ModelError) as error:
        raise DamagedObject(reference, "manifest", str(error)) from error
    if (manifest.name, manifest.version) != (name, version) or manifest.sealed(
        manifest.files
    ).version != version:
        raise DamagedObject(reference, "manifest", "it is not that of this version")
    return manifest


async def remove_pushed(bucket: FilesBucket, manifest: Manifest) -> None:
    """Takes a version out of the bucket, and those of its files that no other version there has."""
    reference = f"{manifest.name}@{manifest.version}"
    await bucket.remove(reference)
    kept: set[str] = set()
    for there in await bucket.names():
        name, at, version = there.partition("@")
        if at and (other := await pushed_manifest(bucket, name, version)) is not None:
            kept |= {entry.sha256 for entry in other.files.values()}
    for sha256 in {entry.sha256 for entry in manifest.files.values()} - kept:
        await bucket.remove(blob_name(sha256))
        await bucket.purge(blob_pieces(sha256))
    if await pushed_version(bucket, manifest.name) == manifest.version:
        await bucket.remove(manifest.name)


def _silent(done: int, total: int) -> None:
    pass
