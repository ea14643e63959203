"""Real nats-servers that a test kills, starts again, starves of room, or joins to a cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from headrace.runtime.child_process import tied_to_parent
from headrace.runtime.nats_binary import find_nats_server
from headrace.runtime.nats_output import ServerOutput
from tests.ports import free_port, free_ports

START_S = 30.0
"""For a loaded machine."""


class NatsServer:
    """One nats-server with JetStream on a port that stays the same, in `folder`. Use as a context manager.

    `jetstream` and `more` are lines of its configuration, inside the block of JetStream and outside of it.
    """

    def __init__(
        self, folder: Path, *, jetstream: Sequence[str] = (), more: Sequence[str] = (), name: str = "nats"
    ) -> None:
        self.name = name
        self.port = free_port()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / f"{name}.conf"
        store = [f'store_dir: "{folder / name}"', *jetstream]
        lines = [
            f'server_name: "{name}"',
            'host: "127.0.0.1"',
            f"port: {self.port}",
            "max_payload: 8MB",
            "jetstream {",
            *store,
            "}",
            *more,
        ]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        return self._process is not None

    def launch(self) -> ServerOutput:
        """Starts it without waiting; the output says when it is ready."""
        output = ServerOutput("127.0.0.1", self.port)
        argv = tied_to_parent([str(find_nats_server().path), "--config", str(self._config)])
        self._process = subprocess.Popen(argv, stderr=subprocess.PIPE, start_new_session=True)
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=_read, args=(self._process.stderr, output), daemon=True)
        self._reader.start()
        return output

    def start(self) -> None:
        """Starts it, and returns when it takes clients."""
        self.launch().wait(START_S)

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends it. Does nothing where it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(START_S)
            assert self._reader is not None
            self._reader.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.end()


class NatsCluster:
    """Three nats-servers that keep every stream in three copies. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        *routes, self._monitor = free_ports(4)
        others = ", ".join(f"nats-route://127.0.0.1:{port}" for port in routes)
        self.servers = [
            NatsServer(
                folder,
                name=f"n{number}",
                more=[f"cluster {{ name: c, listen: 127.0.0.1:{port}, routes: [{others}] }}", *monitor],
            )
            for number, (port, monitor) in enumerate(
                zip(routes, ([f"http: 127.0.0.1:{self._monitor}"], [], []), strict=True)
            )
        ]

    @property
    def urls(self) -> str:
        return ",".join(server.url for server in self.servers)

    def server(self, name: str) -> NatsServer:
        return next(server for server in self.servers if server.name == name)

    def leader(self) -> NatsServer:
        """The server that leads the cluster as a whole; waits for the first election."""
        until_s = time.monotonic() + START_S
        while time.monotonic() < until_s:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/jsz", timeout=START_S) as answer:
                name = json.load(answer).get("meta_cluster", {}).get("leader")
            if name:
                return self.server(name)
            time.sleep(0.05)
        raise AssertionError("the cluster elected nobody")

    def __enter__(self) -> Self:
        try:
            for output in [server.launch() for server in self.servers]:
                output.wait(START_S)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.end()


def _read(stream: IO[bytes], output: ServerOutput) -> None:
    with stream:
        for line in stream:
            output.feed(line.decode("utf-8", "replace").rstrip())
    output.give_up()
