"""The embedded NATS server: it comes up, goes down, says why it cannot, and never outlives its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import nats
import psutil
import pytest
from pydantic import SecretStr

from headrace.contract.errors import StartError
from headrace.runtime import nats_binary, nats_config
from headrace.runtime.nats_binary import find_nats_server
from headrace.runtime.nats_config import config_text
from headrace.runtime.nats_output import ServerOutput
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.nats_version import REQUIRED
from headrace.runtime.settings import NatsSettings

pytestmark = pytest.mark.integration


def settings(folder: Path, **more: object) -> NatsSettings:
    return NatsSettings.model_validate({"port": 0, "store_dir": folder / "nats"} | more)


async def test_runs_and_stops(tmp_path: Path) -> None:
    """It gives its address when it is ready to serve JetStream, and leaves no process and no lock behind."""
    server = EmbeddedNats(settings(tmp_path))
    async with server:
        client = await nats.connect(server.url)
        assert (await client.jetstream().account_info()).streams == 0
        assert client.max_payload == 8 * 1024 * 1024
        await client.close()
        pid = server.pid
        assert pid is not None
        assert os.getsid(pid) == pid, "a session of its own, so that Ctrl-C reaches it through us alone"
    assert not psutil.pid_exists(pid)
    async with server:
        assert server.pid != pid, "it can be started again"


def test_port_in_use(tmp_path: Path) -> None:
    """A port that is taken is named, with what to do, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = EmbeddedNats(settings(tmp_path, port=port))
        with pytest.raises(StartError, match=f"127.0.0.1 port {port}") as caught:
            server.start()
    assert "HEADRACE_NATS_PORT" in caught.value.remedy
    with server:
        assert server.url == f"nats://127.0.0.1:{port}", "the failed start left nothing behind"


def test_port_taken_in_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server itself finds its port taken, the error is the same."""
    monkeypatch.setattr(EmbeddedNats, "_check_port", lambda self: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = EmbeddedNats(settings(tmp_path, port=port))
        with pytest.raises(StartError, match=f"127.0.0.1 port {port}: address already in use"):
            server.start()
    assert server.pid is None


def test_store_in_use(tmp_path: Path) -> None:
    """Two servers never share a store folder."""
    with EmbeddedNats(settings(tmp_path)), pytest.raises(StartError, match="in use by another Headrace"):
        EmbeddedNats(settings(tmp_path)).start()
    EmbeddedNats(settings(tmp_path)).prepare()


def test_store_not_writable(tmp_path: Path) -> None:
    """A store folder that cannot be made is named."""
    (tmp_path / "nats").write_text("a file, not a folder")
    with pytest.raises(StartError, match="cannot be used"):
        EmbeddedNats(settings(tmp_path)).start()


def test_refused_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends at start is an error with the server's own words."""
    monkeypatch.setattr(
        "headrace.runtime.nats_config.config_text", lambda settings: "no such thing: 1\nport: {"
    )
    server = EmbeddedNats(settings(tmp_path))
    with pytest.raises(StartError, match="ended at start: nats-server: Parse error"):
        server.start()
    assert server.pid is None


def test_dies_with_its_parent(tmp_path: Path) -> None:
    """kill -9 of the process that started it ends the server too."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from headrace.runtime.nats_server import EmbeddedNats\n"
        "from headrace.runtime.settings import NatsSettings\n"
        "server = EmbeddedNats(NatsSettings(port=0, store_dir=Path(sys.argv[1])))\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "nats")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        server = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs([server], timeout=10)
    assert not alive


async def test_not_ready_in_time(tmp_path: Path) -> None:
    """A server that is not ready in time is stopped, and the error names the limit."""
    before = set(psutil.Process().children())  # the session's own server, and what other tests are ending
    server = EmbeddedNats(settings(tmp_path, start_timeout_s=0.0001))
    with pytest.raises(StartError, match=r"not ready within 0\.0001 s"):
        async with server:
            raise AssertionError("nothing starts that fast")
    assert server.pid is None
    assert set(psutil.Process().children()) <= before


async def test_start_can_be_cancelled(tmp_path: Path) -> None:
    """Cancelled while it starts, the server is stopped and its folder free again."""
    server = EmbeddedNats(settings(tmp_path))
    task = asyncio.create_task(server.__aenter__())
    await asyncio.sleep(0)  # it has started the process and waits
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.pid is None
    async with server:
        pass


async def test_password(tmp_path: Path) -> None:
    """A password in the settings is asked for by the server, and lies in a file that only its owner can read."""
    secured = settings(tmp_path, user="me", password=SecretStr('a "quoted" \\ $word'))
    async with EmbeddedNats(secured) as server:
        config = secured.store_dir / "nats-server.conf"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        client = await nats.connect(server.url, user="me", password='a "quoted" \\ $word')
        await client.close()
        with pytest.raises(nats.errors.Error, match="Authorization"):
            await nats.connect(server.url, user="me", password="wrong", allow_reconnect=False)


@pytest.mark.parametrize(
    ("sync_interval", "interval_s", "always"), [("2m", 120, False), ("7s", 7, False), ("always", None, True)]
)
def test_the_server_syncs_as_it_is_told(
    sync_interval: str,
    interval_s: int | None,
    always: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a power cut may cost is what the setting says: the running server itself tells it."""
    written = nats_config.config_text
    monkeypatch.setattr(nats_config, "config_text", lambda own: written(own) + "http: 127.0.0.1:-1\n")
    monitor: list[str] = []
    feed = ServerOutput.feed

    def listening(output: ServerOutput, line: str) -> None:
        if "Starting http monitor on" in line:
            monitor.append(line.rpartition(" ")[2])
        feed(output, line)

    monkeypatch.setattr(ServerOutput, "feed", listening)
    with EmbeddedNats(settings(tmp_path, sync_interval=sync_interval)):
        (address,) = monitor
        with urllib.request.urlopen(f"http://{address}/jsz?config=true", timeout=10) as answer:
            config = json.load(answer)["config"]
    assert config.get("sync_always", False) is always
    if interval_s is not None:
        assert config["sync_interval"] == interval_s * 10**9


def test_config_cannot_be_escaped() -> None:
    """A setting with a line break cannot add lines to the server's configuration."""
    with pytest.raises(StartError, match=r"nats\.token"):
        config_text(NatsSettings(token=SecretStr('x"\nport: 1')))


def test_an_old_server_on_the_path_is_passed_over(tmp_path: Path) -> None:
    """A nats-server on the PATH is used if it is new enough; otherwise the package's is."""
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.10\n")
    old.chmod(0o755)
    found = find_nats_server(str(tmp_path))
    assert found.path != old
    assert found.version >= REQUIRED
    old.write_text("#!/bin/sh\necho nats-server: v99.1.0\n")
    assert find_nats_server(str(tmp_path)).path == old


def test_no_server_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any usable server the error says which were seen and what to do."""
    monkeypatch.setattr(nats_binary, "_PACKAGE", "no-such-package")
    (tmp_path / "nats-server").write_text("#!/bin/sh\necho nats-server: v2.9.10\n")
    (tmp_path / "nats-server").chmod(0o755)
    with pytest.raises(StartError, match=r"nats-server \(version 2\.9\.10\)") as caught:
        find_nats_server(str(tmp_path))
    assert "HEADRACE_NATS_URL" in caught.value.remedy
