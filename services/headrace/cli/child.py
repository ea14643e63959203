"""One child process: started, started again whenever it ends, and stopped when told to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from headrace.cli.child_output import LastWords, read_lines
from headrace.cli.restarts import Restarts
from headrace.contract.errors import StartError

log = structlog.get_logger(__name__)

_LAST_LINES_S = 1.0
"""How long the output of an ended child is read on: only something that the child left running keeps it open."""
ENDED = "ended"
"""How a process ended that was asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run. `argv` is tied to this process already, see `runtime.child_process`."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)  # may hold passwords
    stop_grace_s: float
    """From SIGTERM to SIGKILL: the child's own drain, and a little more."""
    hears: Callable[[str], None]
    """Takes each line that it writes."""


class ChildFailed(StartError):
    """A child ended with an error before it had ever been ready. `said` is what it wrote about it."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name} cannot start: {said}")
        self.name = name
        self.said = said


class Child:
    """One process after another under one name.

    Writers: `_process` and `starts` by `keep`, `_settled` by `settle`, `_stopping` by `stop`.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.starts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._settled = False
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Child {self.spec.name} pid={self.pid} starts={self.starts}>"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def settle(self) -> None:
        """It has been ready: from now on every end is a reason to start it again, and none to give up."""
        self._settled = True

    async def keep(self) -> None:
        """Runs it until `stop`. Raises ChildFailed where it ends with an error before `settle`.

        Cancelled, it has the process end first.
        """
        restarts = Restarts()
        try:
            while not self._stopping.is_set():
                began_s = time.monotonic()
                how = await self._run()
                if self._stopping.is_set():
                    return
                wait_s = restarts.wait_s(time.monotonic() - began_s)
                tell = log.info if how == ENDED else log.warning  # it was drained
                tell(f"{self.spec.name} {how}; starting it again", wait_s=wait_s)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait_s or 0.001)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Has it drain and end, and kills it where its grace does not suffice. Returns when it is gone."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._ended.wait(), self.spec.stop_grace_s)
        except TimeoutError:
            log.warning(f"{self.spec.name} did not end in time; killing it", grace_s=self.spec.stop_grace_s)
            self.kill()
            await self._ended.wait()

    def restart(self) -> None:
        """Has it end, whereupon it is started again."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and whatever it started, now."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _run(self) -> str:
        """One life; how it ended, in words."""
        last = LastWords()
        try:
            process = await self._spawn()
        except OSError as error:
            if not self._settled:
                raise ChildFailed(self.spec.name, error.strerror or str(error)) from error
            return f"could not be started ({error.strerror})"
        assert process.stdout is not None
        reading = asyncio.create_task(self._read(process.stdout, last), name=f"output of {self.spec.name}")
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await self._end(process)
            raise
        finally:
            await asyncio.wait({reading}, timeout=_LAST_LINES_S)
            reading.cancel()
            self._process = None
        if code > 0 and not self._settled and not self._stopping.is_set():
            raise ChildFailed(self.spec.name, last.reason)
        return _ending(code, last)

    async def _spawn(self) -> asyncio.subprocess.Process:
        # On the event loop's thread, which lives as long as this process: the child's tie is to the thread.
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            *self.spec.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(self.spec.environ),
            start_new_session=True,  # so that Ctrl-C at the terminal reaches it only through us
        )
        if self._stopping.is_set():  # told so while it was being started
            self._signal(signal.SIGTERM)
        return self._process

    async def _read(self, stream: asyncio.StreamReader, last: LastWords) -> None:
        async for line in read_lines(stream):
            last.add(line)
            self.spec.hears(line)

    def pass_on(self, number: int) -> None:
        """Passes a signal on, once it has been ready: before that it would end it."""
        if self._settled:
            self._signal(signal.Signals(number))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """The end of a cancelled life: asks, waits, kills."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.spec.stop_grace_s)
        except TimeoutError:
            self.kill()
            await process.wait()


def _ending(code: int, last: LastWords) -> str:
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return ENDED if code == 0 else f"failed with exit code {code} ({last.reason})"
