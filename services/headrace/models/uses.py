"""Who works with a version of the store, across all processes of the machine: nobody takes it away under them.

A lock on a file of its own, shared by its users, that the system drops with the process that holds it. The file's age
is when the version was last used, by which the longest unused goes first.
"""

from __future__ import annotations

import fcntl
import os
from typing import IO

from headrace.models.store import ModelStore, StoredModel, reporting

_FOLDER = ".uses"


class Use:
    """A version that is in use here until `end`."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def end(self) -> None:
        """May be called again."""
        if not self._file.closed:
            os.utime(self._file.fileno())
            self._file.close()


def begin_use(store: ModelStore, model: StoredModel) -> Use:
    """From now on nobody removes it. Waits for somebody who is about to, so look afterwards whether it is there."""
    with reporting(store.root):
        file = _open(store, model)
        fcntl.flock(file, fcntl.LOCK_SH)
        os.utime(file.fileno())
    return Use(file)


def claim_unused(store: ModelStore, model: StoredModel) -> Use | None:
    """The right to remove it, until `end`; None where somebody works with it."""
    with reporting(store.root):
        file = _open(store, model)
        used_at = os.stat(file.fileno())
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        os.utime(file.fileno(), ns=(used_at.st_atime_ns, used_at.st_mtime_ns))
    return Use(file)


def last_used_s(store: ModelStore, model: StoredModel) -> float:
    """When it was last used, or else installed, in Unix time."""
    for path in (store.root / _FOLDER / model.reference, model.path):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _open(store: ModelStore, model: StoredModel) -> IO[str]:
    path = store.root / _FOLDER / model.reference
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    file = path.open("a")
    if new and model.path.exists():  # looking is no use
        made = model.path.stat()
        os.utime(path, ns=(made.st_atime_ns, made.st_mtime_ns))
    return file
