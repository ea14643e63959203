"""The NATS server that Headrace starts for itself: on one machine, and in tests.

    with EmbeddedNats(settings.nats) as server:      # or: async with
        connect(server.url)

`prepare()` alone gives the command line, for who supervises the process himself: every line of its stderr goes to
`output.feed(line)`, which knows when the server is ready, at which address, and why it failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import signal
import socket
import subprocess
import threading
from types import TracebackType
from typing import IO, Self

from headrace.contract.errors import StartError
from headrace.runtime.child_process import tied_to_parent
from headrace.runtime.nats_binary import find_nats_server
from headrace.runtime.nats_config import write_config
from headrace.runtime.nats_output import ServerOutput, cannot_listen
from headrace.runtime.settings import NatsSettings

_READ_SIZE_LIMIT = 16 * 1024  # bytes of one log line; what is longer comes in pieces


class EmbeddedNats:
    """One nats-server as a child process, with JetStream in `settings.store_dir`.

    The child has its own session, so that Ctrl-C reaches it only through us, and it ends with this process.
    Start it from a thread that lives as long as the process does.
    """

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lock: IO[str] | None = None
        self.output = ServerOutput(settings.host, settings.port)

    def __repr__(self) -> str:
        return f"<EmbeddedNats {self.output!r} pid={self.pid}>"

    @property
    def url(self) -> str:
        """Where clients connect. With port 0 it is known only once the server is ready."""
        return self.output.url

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def prepare(self) -> list[str]:
        """Checks all that can be checked, writes the configuration, and gives the command line of the server.

        Holds the store folder until `release()`: two servers on one folder would destroy it. Raises StartError where
        the port is taken, the folder is in use or not writable, or there is no nats-server.
        """
        binary = find_nats_server()
        self._hold_store()
        try:
            self._check_port()
            config = write_config(self._settings)
        except BaseException:
            self.release()
            raise
        return tied_to_parent([str(binary.path), "--config", str(config)])

    def start(self) -> None:
        """Starts the server and waits until it is ready. Raises StartError where it is not, with the reason."""
        self._launch()
        try:
            self.output.wait(self._settings.start_timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the server: asks, waits for `stop_grace_s`, kills. Does nothing where none runs."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(self._settings.stop_grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._reader is not None:
            self._reader.join()  # ends with the pipe, which the process's end has closed
            self._reader = None
        self.release()

    def release(self) -> None:
        """Gives the store folder free; part of `stop()`."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._launch()  # on this thread, not in an executor: see child_process
        try:
            await asyncio.to_thread(self.output.wait, self._settings.start_timeout_s)
        except BaseException:
            self.output.give_up()  # frees the waiting thread where we were cancelled
            await asyncio.shield(asyncio.to_thread(self.stop))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.stop))

    def _launch(self) -> None:
        if self._process is not None:
            raise RuntimeError("the server runs already")
        self.output = ServerOutput(self._settings.host, self._settings.port)
        argv = self.prepare()
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self.release()
            raise StartError(f"nats-server cannot be started: {error.strerror}") from error
        assert self._process.stderr is not None
        self._reader = threading.Thread(
            target=_read_lines, args=(self._process.stderr, self.output), name="nats-server-log", daemon=True
        )
        self._reader.start()

    def _hold_store(self) -> None:
        if self._lock is not None:
            return  # prepared before: a supervisor starts the server again
        folder = self._settings.store_dir
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (folder / "lock").open("w")
        except OSError as error:
            raise StartError(
                f"the NATS store folder {folder} cannot be used: {error.strerror}",
                "Set HEADRACE_NATS_STORE_DIR to a folder that can be written",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StartError(
                f"the NATS store folder {folder} is in use by another Headrace on this machine",
                "Stop that one, or set HEADRACE_NATS_STORE_DIR and HEADRACE_NATS_PORT to others,"
                " or HEADRACE_NATS_URL to use its server",
            ) from error
        self._lock = lock

    def _check_port(self) -> None:
        """Early and clear; a port taken in the moment after is still found in the server's output."""
        host, port = self._settings.host, self._settings.port
        if port == 0:
            return
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            raise cannot_listen(host, port, error.strerror or str(error)) from error


def _read_lines(stream: IO[bytes], output: ServerOutput) -> None:
    """Reads until the server closes its end: an unread pipe would fill and stop the server."""
    with stream:
        while line := stream.readline(_READ_SIZE_LIMIT):
            output.feed(line.decode("utf-8", "replace").rstrip())
    output.give_up()
