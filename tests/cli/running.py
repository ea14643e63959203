"""A `headrace` command that runs as a process of its own, and what it says."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

PATIENCE_S = 60.0
"""For one line, on a machine that is busy with other things."""


class Running:
    """A context manager; leaving it kills whatever is left. Lines of stdout and stderr come in one sequence."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "headrace.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**clean, "HEADRACE_CONFIG": os.devnull, **(env or {})},
            text=True,
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._seen: set[psutil.Process] = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def up(cls, store: Path, state: Path, *more: str) -> Self:
        """`headrace up` on free ports."""
        ports = ("--port", "0", "--set", "router.port=0", "--set", "nats.port=0", "--set", "console.port=0")
        return cls(
            "up",
            *([] if "--console" in more else ["--no-console"]),
            "--no-pull",
            "--state",
            str(state),
            *ports,
            "--lanes",
            "1",
            *more,
            env={"HEADRACE_MODELS": str(store)},
        )

    @property
    def output(self) -> str:
        """Everything so far that a wait has come by."""
        return "\n".join(self.said)

    @property
    def gateway(self) -> str:
        """Where the ready block says that the gateway is."""
        found = re.search(r"gRPC gateway +(\S+)", self.output)
        assert found, self.output
        return found[1]

    def wait_for(self, pattern: str, patience_s: float = PATIENCE_S) -> re.Match[str]:
        """The first further line in which `pattern` is found. Fails with all output where none comes."""
        until = time.monotonic() + patience_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(
                    f"no line like {pattern!r} within {patience_s} s:\n{self.output}"
                ) from None
            if line is None:
                raise AssertionError(f"ended without a line like {pattern!r}:\n{self.output}")
            self.said.append(line)
            if found := re.search(pattern, line):
                return found

    def children(self) -> dict[str, psutil.Process]:
        """The live children by name: nats, router, gateway, worker."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            command = child.cmdline()
            name = "nats" if "nats-server" in command[0] else command[-1]
            found[f"{name} (2)" if name in found else name] = child
        self._seen.update(found.values())
        return found

    def end(self, number: signal.Signals = signal.SIGINT, patience_s: float = PATIENCE_S) -> int:
        """Sends a signal and waits for the end; gives the exit code."""
        self.process.send_signal(number)
        return self.wait(patience_s)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """The exit code, once it has ended and all output is read."""
        code = self.process.wait(patience_s)
        self._reader.join(patience_s)
        while (line := self._lines.get()) is not None:
            self.said.append(line)
        return code

    def left_over(self, patience_s: float = 0.0) -> Sequence[psutil.Process]:
        """The children that were ever seen and still live after `patience_s`."""
        _, alive = psutil.wait_procs(self._seen, timeout=patience_s)
        return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.children()
            self.process.kill()
            self.process.wait()
        for process in self.left_over():
            process.kill()
        self._reader.join(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()


def run(
    *arguments: str, env: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return subprocess.run(
        [sys.executable, "-m", "headrace.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**clean, "HEADRACE_CONFIG": os.devnull, **(env or {})},
        check=False,
    )
