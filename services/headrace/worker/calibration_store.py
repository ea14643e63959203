"""Where calibrations are kept: beside the models, as one file for each model, version and machine.

    <root>/.calibrations/<model>.<digest>.json     the digest covers the version and the machine's fingerprint

A model's own folder is sealed, so nothing may be added there; and no model's name has a dot, so this folder is none. A
store that several machines share holds the calibrations of all.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import structlog

from headrace.models.errors import StoreFailed
from headrace.models.manifest import Manifest
from headrace.models.seal import sync_folder
from headrace.models.store import ModelStore
from headrace.worker.calibration import Calibration, read_calibration, write_calibration
from headrace.worker.fingerprint import Fingerprint

log = structlog.get_logger(__name__)

_FOLDER = ".calibrations"
_DIGITS = 12


class CalibrationStore:
    """The calibrations of the models in a store. A file is there whole, or not at all."""

    def __init__(self, models: ModelStore) -> None:
        self.folder = models.root / _FOLDER

    def __repr__(self) -> str:
        return f"CalibrationStore({str(self.folder)!r})"

    def path(self, model: str, version: str, fingerprint: Fingerprint) -> Path:
        """The file of a model on a machine, whether it is there or not."""
        digest = hashlib.sha256(f"{version} {fingerprint.digest}".encode()).hexdigest()[:_DIGITS]
        return self.folder / f"{model}.{digest}.json"

    def find(
        self, manifest: Manifest, fingerprint: Fingerprint, *, quiet: bool = False
    ) -> Calibration | None:
        """What was measured of the model on a machine like this; None where nothing was.

        A file that cannot be read, or is another's, counts as none: a warning says so, and what to do, unless `quiet`.
        """
        path = self.path(manifest.name, manifest.version, fingerprint)
        try:
            found = read_calibration(path.read_text(encoding="utf-8"))
            if (found.model, found.version) != (manifest.name, manifest.version):
                raise ValueError(f"it is of {found.model} {found.version}")
            if found.fingerprint != fingerprint:
                raise ValueError("it was measured on another machine")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if quiet:
                return None
            log.warning(
                "calibration.ignored",
                model=manifest.name,
                path=str(path),
                problem=str(error),
                remedy=f"measure it again, which replaces the file: headrace calibrate {manifest.name}",
            )
            return None
        return found

    def of(self, manifest: Manifest) -> tuple[Calibration, ...]:
        """All that was measured of this version of the model, on whatever machines. An unreadable file is none."""
        found = []
        for path in sorted(self.folder.glob(f"{manifest.name}.*.json")):
            try:
                found.append(read_calibration(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                log.warning("calibration.ignored", model=manifest.name, path=str(path), problem=str(error))
        return tuple(one for one in found if (one.model, one.version) == (manifest.name, manifest.version))

    def save(self, calibration: Calibration) -> Path:
        """Puts it in the place of any former one. Returns its file. Raises StoreFailed."""
        path = self.path(calibration.model, calibration.version, calibration.fingerprint)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, partial = tempfile.mkstemp(prefix=".partial.", dir=self.folder)
            try:
                with open(descriptor, "w", encoding="utf-8") as out:
                    out.write(write_calibration(calibration))
                    out.flush()
                    os.fsync(out.fileno())
                Path(partial).chmod(0o644)
                Path(partial).replace(path)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise
            sync_folder(self.folder)
        except OSError as error:
            raise StoreFailed(self.folder, error.strerror or str(error)) from error
        return path
