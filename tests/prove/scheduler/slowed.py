"""Workers of unequal speed on one machine: each on a core of its own, and one held still for a part of the time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.integration.processes import Processes

PERIOD_S = 0.03
"""Shorter than a step and a prefill of the real model last, so that to them it is a slower machine."""


class Slowed:
    """Holds a process still, so that it runs for `share` of the time. Writer of its thread: this object."""

    def __init__(self, pid: int, share: float) -> None:
        self._pid = pid
        self._share = share
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hold, name=f"slow down {pid}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """From here on it runs as it can."""
        self._over.set()
        self._thread.join()

    def _hold(self) -> None:
        # By the clock and not by the number of sleeps: one that comes late must not change the share.
        began_s, ran_s, running_s = time.monotonic(), 0.0, time.monotonic()
        try:
            while not self._over.wait(PERIOD_S * self._share):
                os.kill(self._pid, signal.SIGSTOP)
                ran_s += time.monotonic() - running_s
                still_s = ran_s / self._share - (time.monotonic() - began_s)
                self._over.wait(max(0.0, still_s))
                os.kill(self._pid, signal.SIGCONT)
                running_s = time.monotonic()
            os.kill(self._pid, signal.SIGCONT)
        except ProcessLookupError:
            return


class UnequalProcesses(Processes):
    """A mesh whose workers have one core each, and some of them only a share of it."""

    def __init__(
        self,
        folder: Path,
        *,
        models: Path,
        environment: Mapping[str, str],
        names: Sequence[str],
        cores: Mapping[str, int],
        shares: Mapping[str, float],
    ) -> None:
        super().__init__(folder, models=models, environment=environment, names=names)
        self._cores = cores
        self._shares = shares
        self._slowed: dict[str, Slowed] = {}

    async def start(self, name: str, **environment: str) -> None:
        own = {"HEADRACE_WORKER_NAME": name} if name in self._cores else {}
        await super().start(name, **own, **environment)
        if name in self._cores:
            os.sched_setaffinity(self.pid(name), {self._cores[name]})  # before it has any thread
        if name in self._shares:
            self._slowed[name] = Slowed(self.pid(name), self._shares[name])

    async def stop(self, name: str) -> int:
        if (slowed := self._slowed.pop(name, None)) is not None:
            slowed.end()
        return await super().stop(name)
