"""A mesh of real processes, several of a kind where a test wants them; signalled, measured and read by name."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.runtime.child_process import tied_to_parent
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings
from tests.ports import named_ports

READY_S = 60.0
"""For a start on a loaded machine."""
STOP_S = 40.0
"""A process that has not ended so long after SIGTERM does not end."""

NATS = "nats"


class Mesh:
    """nats-server, and `router-1`, `gateway-1`, `worker-1` … as many as are asked for. An async context manager; leaves
    no process behind. Worker N joins router N, or another where that one is not there.

    `environment` is added to each process's. Logs go to `folder`, one file per name.
    """

    def __init__(
        self,
        folder: Path,
        *,
        models: Path,
        environment: Mapping[str, str] | None = None,
        routers: int = 1,
        gateways: int = 1,
        workers: int = 1,
    ) -> None:
        self.folder = folder
        self.routers = [f"router-{n}" for n in range(1, routers + 1)]
        self.gateways = [f"gateway-{n}" for n in range(1, gateways + 1)]
        self.workers = [f"worker-{n}" for n in range(1, workers + 1)]
        self.ports = named_ports([NATS, *self.routers, *self.gateways])
        self._nats = EmbeddedNats(NatsSettings(port=self.ports[NATS], store_dir=folder / "nats"))
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")},
            "HEADRACE_NATS_URL": self.nats_url,
            "HEADRACE_MODELS": str(models),
            "HEADRACE_ROUTER_ACK_WAIT_S": "2",
            "HEADRACE_LOG_FORMAT": "json",
            **(environment or {}),
        }
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self.ports[NATS]}"

    @property
    def nats_pid(self) -> int:
        pid = self._nats.pid
        assert pid is not None, "it runs"
        return pid

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(lambda: None)  # the child watcher wants a running loop before the first child
        self._nats.start()
        try:
            for name in (*self.routers, *self.gateways, *self.workers):
                await self.start(name)
            await self.ready()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        processes = list(self._processes.values())
        for process in processes:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(process.wait() for process in processes))
        await asyncio.to_thread(self._nats.stop)

    async def start(self, name: str) -> None:
        """Starts a process; `ready` says when the mesh serves."""
        kind, _, number = name.partition("-")
        if kind == "worker":
            first = min(int(number), len(self.routers)) - 1
            routers = self.routers[first:] + self.routers[:first]
            own = {
                "HEADRACE_WORKER_ROUTER": ",".join(map(self.address, routers)),
                "HEADRACE_WORKER_NAME": name,
            }
        else:
            own = {f"HEADRACE_{kind.upper()}_PORT": str(self.ports[name])}
        argv = tied_to_parent([sys.executable, "-m", "headrace.cli", kind])
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *argv, env={**self._environment, **own}, stdout=log, stderr=log, start_new_session=True
            )

    def signal(self, name: str, number: signal.Signals) -> None:
        if name == NATS:
            os.kill(self.nats_pid, number)
        else:
            self._processes[name].send_signal(number)

    async def kill(self, name: str) -> None:
        """SIGKILL, and the end."""
        process = self._processes.pop(name)
        process.kill()
        await process.wait()

    async def stop(self, name: str) -> int:
        """SIGTERM, and the exit code."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{name} did not stop; its log:\n{self.log(name)[-2000:]}") from None

    def ended(self) -> dict[str, int]:
        """The processes that ended by themselves, with their exit codes."""
        return {
            name: process.returncode
            for name, process in self._processes.items()
            if process.returncode is not None
        }

    def memory_mib(self, name: str) -> float:
        """What the process occupies now; 0 where it has ended."""
        try:
            return float(psutil.Process(self._pid(name)).memory_info().rss / 2**20)
        except psutil.NoSuchProcess:
            return 0.0

    def files(self, name: str) -> int:
        """Open files and connections of the process; 0 where it has ended."""
        try:
            return int(psutil.Process(self._pid(name)).num_fds())
        except psutil.NoSuchProcess:
            return 0

    def cpu_s(self, name: str) -> float:
        """Processor time that it has taken so far."""
        times = psutil.Process(self._pid(name)).cpu_times()
        return float(times.user + times.system)

    def _pid(self, name: str) -> int:
        return self.nats_pid if name == NATS else self._processes[name].pid

    def log(self, name: str) -> str:
        """What the process has logged so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def logs(self) -> dict[str, str]:
        """What all have logged so far."""
        return {path.stem: path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log"))}

    async def ready(self, lanes: int = 1) -> None:
        """Returns when every gateway lists a model with so many lanes."""
        async with asyncio.timeout(READY_S):
            for gateway in self.gateways:
                async with HeadraceClient(self.address(gateway)) as client:
                    while not await self._serves(client, lanes):
                        for name, code in self.ended().items():
                            raise AssertionError(f"{name} ended with {code}:\n{self.log(name)[-3000:]}")
                        await asyncio.sleep(
                            0.05
                        )  # a start of processes has no event that a test could wait for

    @staticmethod
    async def _serves(client: HeadraceClient, lanes: int) -> bool:
        try:
            return any(model.lanes >= lanes for model in await client.models())
        except HeadraceError:
            return False
