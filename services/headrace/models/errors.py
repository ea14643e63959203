"""What can be wrong with a model, its files or where they come from.

    HeadraceError
    └── ModelError
        ├── DamagedModel(model, file, reason)      an installed model is not what was installed
        ├── BadManifest(path, reason)              a manifest that cannot be read
        ├── DownloadFailed(what, reason, remedy)   a file did not arrive, or is not the pinned one
        ├── BadGguf(path, reason)                  not a GGUF file, or a truncated one
        ├── BadModelFile(path, reason)             another file of a model that is not what its name says
        ├── BadCheckpoint(path, reason)            a model folder that lacks something, or has files that do not fit
        ├── BadTokeniser(path, reason)             a tokeniser's file that cannot be read
        ├── MissingExtra(extra, what)              a part of Headrace that is not installed is needed
        ├── UnsupportedModel(what, reason)         a sound file of a kind that cannot be converted
        ├── BadTemplate(reason)                    a chat template that cannot be used
        ├── StoreFailed(path, problem)             the store's folder cannot be read or written
        ├── NoRoom(reference, needed, problem)     the disk, or the share of it for models, is too small
        ├── ModelInUse(reference, by)              a version that is loaded, or wanted, is not removed
        ├── NotEnoughMemory(reference, ...)        loading it would take more memory than there is
        ├── ModelNotFound(reference, problem)      neither here nor where it was looked for
        └── DamagedObject(reference, file, reason)  what the broker has of a model is not what was pushed

A name that the store does not hold is `headrace.contract.errors.UnknownModel`.
"""

from __future__ import annotations

from pathlib import Path

from headrace.contract.errors import HeadraceError


class ModelError(HeadraceError):
    """Something is wrong with a model or its files."""

    code = "MODEL_ERROR"


class DamagedModel(ModelError):
    """A file of an installed model is missing or changed. Pulling again repairs it."""

    code = "DAMAGED_MODEL"

    def __init__(self, model: str, file: str, reason: str) -> None:
        super().__init__(
            f"model {model!r} is damaged: {file}: {reason}; run 'headrace model pull {model}' again"
        )
        self.model = model
        self.file = file
        self.reason = reason


class BadManifest(ModelError):
    """A manifest that is missing, no JSON, of another format, or lacks something."""

    code = "DAMAGED_MODEL"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class DownloadFailed(ModelError):
    """A file could not be fetched, or is not the one that is pinned. `remedy` says what to do."""

    code = "DOWNLOAD_FAILED"

    def __init__(self, what: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"cannot fetch {what}: {reason}" + (f"; {remedy}" if remedy else ""))
        self.what = what
        self.reason = reason
        self.remedy = remedy


class BadGguf(ModelError):
    """The file is not GGUF, is truncated, or its metadata is not what the format says."""

    code = "BAD_MODEL_FILE"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name}: {reason}")
        self.path = path
        self.reason = reason


class BadModelFile(ModelError):
    """A file of a model, GGUF apart, that is truncated or not what its name says."""

    code = "BAD_MODEL_FILE"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class BadCheckpoint(ModelError):
    """A folder with a model that lacks something, or whose files do not fit together."""

    code = "BAD_MODEL_FILE"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name}: {reason}")
        self.path = path
        self.reason = reason


class BadTokeniser(ModelError):
    """A tokeniser's file that is damaged, or no such file."""

    code = "BAD_MODEL_FILE"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name}: {reason}")
        self.path = path
        self.reason = reason


class MissingExtra(ModelError):
    """Something that only an extra of the package installs is needed."""

    code = "MISSING_EXTRA"

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'headrace[{extra}]'")
        self.extra = extra
        self.what = what


class UnsupportedModel(ModelError):
    """A sound model of a kind that would convert wrongly or not at all. Refused before anything is computed."""

    code = "UNSUPPORTED_MODEL"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} cannot be converted: {reason}")
        self.what = what
        self.reason = reason


class BadTemplate(ModelError):
    """A chat template that does not parse, reaches for what it may not, or runs out of its budget."""

    code = "BAD_TEMPLATE"

    def __init__(self, reason: str) -> None:
        super().__init__(f"chat template: {reason}")
        self.reason = reason


class StoreFailed(ModelError):
    """The model store's folder cannot be read or written: permissions, a full disk."""

    code = "STORE_FAILED"

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"model store {path}: {problem}")
        self.path = path
        self.problem = problem


class NoRoom(ModelError):
    """A version of `needed` bytes does not fit on the disk, though all that may go is gone."""

    code = "NO_ROOM"

    def __init__(self, reference: str, needed: int, problem: str) -> None:
        super().__init__(f"no room for {reference}, which takes {needed / 1e6:.0f} MB: {problem}")
        self.reference = reference
        self.needed = needed
        self.problem = problem


class ModelInUse(ModelError):
    """A version that somebody works with cannot be removed. `by` says who, and what to do first."""

    code = "MODEL_IN_USE"

    def __init__(self, reference: str, by: str) -> None:
        super().__init__(f"{reference} is in use: {by}")
        self.reference = reference
        self.by = by


class NotEnoughMemory(ModelError):
    """A model would not fit into the memory that is left. Refused before anything is loaded."""

    code = "NOT_ENOUGH_MEMORY"

    def __init__(self, reference: str, needed: int, available: int, remedy: str) -> None:
        super().__init__(
            f"{reference} takes about {needed / 1e6:.0f} MB of memory here, and {available / 1e6:.0f} MB are free;"
            f" {remedy}"
        )
        self.reference = reference
        self.needed = needed
        self.available = available


class DamagedObject(ModelError):
    """What the broker has of a version is not what its manifest says. Nothing of it is installed."""

    code = "DAMAGED_OBJECT"

    def __init__(self, reference: str, file: str, reason: str) -> None:
        super().__init__(
            f"{reference} in the NATS object store is damaged: {file}: {reason}; push it again from where it is whole:"
            f" headrace model push {reference} --force"
        )
        self.reference = reference
        self.file = file
        self.reason = reason


class ModelNotFound(ModelError):
    """A model is not where it was looked for; `problem` says where that was, and how it comes there."""

    code = "NOT_FOUND"

    def __init__(self, reference: str, problem: str) -> None:
        super().__init__(f"{reference[:100]} {problem}")
        self.reference = reference
        self.problem = problem
