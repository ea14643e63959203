"""Digests of files, and getting them safely onto the disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from headrace.models.manifest import MANIFEST_NAME, FileEntry, Manifest


def digest_file(path: Path) -> str:
    """SHA-256 of the file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Makes all files below `folder`, and their names, survive a power cut."""
    for parent, _, files in os.walk(folder):
        for file in files:
            with (Path(parent) / file).open("rb") as opened:
                os.fsync(opened.fileno())
        sync_folder(Path(parent))


def seal_folder(folder: Path, manifest: Manifest) -> Manifest:
    """Writes the manifest, last, over all files in `folder`, and has everything on disk before it returns."""
    files = {
        path.relative_to(folder).as_posix(): FileEntry(sha256=digest_file(path), size=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    sync_tree(folder)
    sealed = manifest.sealed(files)
    write_manifest(folder, sealed)
    return sealed


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Makes a model of the files in `folder`."""
    with (folder / MANIFEST_NAME).open("w", encoding="utf-8") as out:
        out.write(manifest.to_json())
        out.flush()
        os.fsync(out.fileno())
    sync_folder(folder)
