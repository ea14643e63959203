"""Digests of files, and getting them safely onto the disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


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
