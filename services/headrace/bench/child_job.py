"""A child process of the benchmark: told what to do in lines, and answering in lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from types import TracebackType
from typing import Any, Self

from headrace.contract.errors import HeadraceError
from headrace.runtime.child_process import tied_to_parent

_STOP_S = 5.0
"""From the end of its input to SIGKILL: an engine unloads within a second."""
_KEPT = 5
"""Lines of its stderr that are kept, for the message where it fails."""


class ChildFailed(HeadraceError):
    """A child process of the benchmark ended before its time. `said` is what it wrote about it."""

    def __init__(self, module: str, said: str) -> None:
        super().__init__(f"{module} failed: {said}")
        self.module = module
        self.said = said


class ChildJob:
    """`python -m module argument…` as an async context manager; leaving it ends the process.

    Closing its input is the child's sign to end. It has its own session, so that Ctrl-C reaches it only through us.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._module = module
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._errors: deque[str] = deque(maxlen=_KEPT)
        self._listening: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "used inside `async with`"
        return self._process.pid

    async def say(self, **message: Any) -> None:
        """Sends one line."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it has ended: `hear` tells why
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def hear(self) -> dict[str, Any]:
        """Its next line. Raises ChildFailed where there is none."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if line:
            message: dict[str, Any] = json.loads(line)
            return message
        await self._process.wait()
        if self._listening is not None:
            await self._listening
        raise ChildFailed(self._module, "; ".join(self._errors) or _ending(self._process.returncode))

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *tied_to_parent([sys.executable, "-m", self._module, *self._arguments]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._listening = asyncio.create_task(self._listen(), name=f"stderr of {self._module}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(0 if error else _STOP_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._listening is not None:
            self._listening.cancel()

    async def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            if text := line.decode("utf-8", "replace").strip():
                self._errors.append(text[:300])


def _ending(code: int | None) -> str:
    return f"exit code {code}" if code is None or code >= 0 else f"ended by {signal.Signals(-code).name}"


def answer(**message: Any) -> None:
    """In the child: one line to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
