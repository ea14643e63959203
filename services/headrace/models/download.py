"""Fetches a pinned wheel from a package index, with pip.

pip is the client that already knows how this machine reaches its index: PIP_* variables, pip.conf, mirrors, proxies,
certificates, credentials. Here it gets one requirement with a hash and no dependencies, so that it fetches exactly the
pinned file or nothing. pip 25.1 and later resume a transfer that breaks off; an older one takes what it got for the
file, so with those we begin again. A finished file is kept until the model is installed, so that a pull that is
interrupted after that does not fetch it again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from headrace.models.catalogue import Wheel
from headrace.models.errors import DownloadFailed
from headrace.models.seal import digest_file

_SCRATCH_PREFIX = "scratch-"

INDEX_VARIABLE = "HEADRACE_PYPI_INDEX"
"""The URL of a simple index to use instead of the one that pip is set up with."""

RETRIES = 5
"""How often pip tries a request again, and resumes a transfer that broke off, with growing pauses."""

_RESUMES_SINCE = (25, 1)
_ATTEMPTS_WITHOUT_RESUMING = 3
_PAUSE_S = 1.0  # after the first attempt; twice as long after each further one
_REPORT_EVERY_S = 0.1  # how often the growing file is measured for the progress bar

BytesProgress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all)."""


def fetch_wheel(wheel: Wheel, folder: Path, progress: BytesProgress, index: str | None = None) -> Path:
    """The path of the pinned wheel in `folder`, fetched unless it lies there already. Raises DownloadFailed.

    `index` overrides HEADRACE_PYPI_INDEX, which overrides pip's own settings.
    """
    target = folder / wheel.filename
    if target.exists():
        if digest_file(target) == wheel.sha256:
            progress(wheel.size, wheel.size)
            return target
        target.unlink()
    if (version := _pip_version()) is None:
        raise DownloadFailed(
            str(wheel), "pip is not installed beside Headrace", f"run '{sys.executable} -m ensurepip'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    index = index or os.environ.get(INDEX_VARIABLE)
    for attempt in range(1 if version >= _RESUMES_SINCE else _ATTEMPTS_WITHOUT_RESUMING):
        if attempt:
            time.sleep(_PAUSE_S * 2 ** (attempt - 1))
        try:
            _fetch(wheel, target, progress, index)
        except _Incomplete as error:
            failure = error
        else:
            progress(wheel.size, wheel.size)
            return target
    raise DownloadFailed(str(wheel), failure.reason, failure.remedy)


class _Incomplete(DownloadFailed):
    """Something arrived, but not (all of) the file: another attempt may help."""


def _fetch(wheel: Wheel, target: Path, progress: BytesProgress, index: str | None) -> None:
    # pip's temporary files go there too: on the same file system, measurable, and cleared whatever happens.
    with scratch_folder(target.parent) as scratch:
        _run_pip(wheel, scratch, progress, index)
        fetched = scratch / wheel.filename
        if not fetched.is_file():
            raise DownloadFailed(str(wheel), f"the index has no {wheel.filename}")
        # pip has checked the hash; no setting of pip's must be able to weaken that, so we look ourselves.
        if (found := digest_file(fetched)) != wheel.sha256:
            raise DownloadFailed(str(wheel), f"its SHA-256 is {found} and not the pinned {wheel.sha256}")
        fetched.rename(target)


def _pip_version() -> tuple[int, ...] | None:
    try:
        return tuple(int(part) for part in metadata.version("pip").split(".")[:2] if part.isdigit())
    except metadata.PackageNotFoundError:
        return None


def forget_wheel(wheel: Wheel, folder: Path) -> None:
    """Deletes what `fetch_wheel` left in `folder`, and `folder` if that empties it."""
    (folder / wheel.filename).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder in `folder`, which `clear_leftovers` finds where we were killed."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=_SCRATCH_PREFIX) as scratch:
        yield Path(scratch)


def clear_leftovers(folder: Path) -> None:
    """Deletes the temporary files of downloads that were killed. Only while nobody else downloads into `folder`."""
    for leftover in folder.glob(f"{_SCRATCH_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _run_pip(wheel: Wheel, scratch: Path, progress: BytesProgress, index: str | None) -> None:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{wheel} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ]
    command += ["--no-cache-dir", "--no-input", "--progress-bar=off", f"--retries={RETRIES}"]
    command += [f"--dest={scratch}", f"--requirement={requirements}"]
    if index is not None:
        command.append(f"--index-url={index}")
    log = scratch / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_environment(os.environ, scratch)
        )
        try:
            while (code := _wait(process)) is None:
                progress(min(_bytes_in(scratch, wheel.filename), wheel.size), wheel.size)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code != 0:
        raise _explain(wheel, log.read_text(encoding="utf-8", errors="replace"))


def _environment(own: Mapping[str, str], scratch: Path) -> dict[str, str]:
    return {
        **own,
        "TMPDIR": str(scratch),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # As a variable and not a flag: a pip that is too old to resume ignores it.
        "PIP_RESUME_RETRIES": str(RETRIES),
    }


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(timeout=_REPORT_EVERY_S)
    except subprocess.TimeoutExpired:
        return None


def _bytes_in(scratch: Path, filename: str) -> int:
    """The size of the file on its way. pip moves files and folders meanwhile: what has just gone is passed over."""
    size = 0
    for folder, _, files in os.walk(scratch):
        if filename in files:
            with contextlib.suppress(OSError):
                size = max(size, (Path(folder) / filename).stat().st_size)
    return size


# Words of pip's log, which is the only place where it says why.
_UNREACHABLE = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeout",
    "Connection refused",
    "ProxyError",
    "SSLError",
)
_BROKEN_OFF = ("ReadTimeout", "IncompleteRead", "ProtocolError", "Connection broken", "not enough bytes")


def _explain(wheel: Wheel, log: str) -> DownloadFailed:
    """What went wrong, from pip's log, in one line."""
    what = str(wheel)
    if "DO NOT MATCH THE HASHES" in log:
        problem = "what arrived is not the pinned file (its SHA-256 differs)"
        return _Incomplete(
            what, problem, "the transfer broke off, or the index serves another file under this name"
        )
    if any(mark in log for mark in _UNREACHABLE):
        return DownloadFailed(
            what,
            "the package index cannot be reached",
            f"check the network, or set {INDEX_VARIABLE} or PIP_INDEX_URL to a mirror",
        )
    if any(mark in log for mark in _BROKEN_OFF):
        return _Incomplete(what, "the transfer broke off", "run the same command again")
    if "No matching distribution found" in log:
        return DownloadFailed(
            what, "the package index does not have it", f"set {INDEX_VARIABLE} to one that does"
        )
    if "No space left on device" in log:
        return DownloadFailed(what, "no space left on the disk")
    errors = [line.removeprefix("ERROR:").strip() for line in log.splitlines() if line.startswith("ERROR:")]
    return DownloadFailed(what, f"pip: {errors[-1][:300]}" if errors else "pip failed without saying why")
