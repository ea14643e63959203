"""A mesh of real processes, as an operator would start them one by one. Tests kill them and look."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings
from tests.integration.local_mesh import GATEWAY, becomes
from tests.ports import free_port

READY_S = 60.0
"""For the slowest start there is: the real model's, on a loaded machine."""


class Processes:
    """nats-server, routers, gateways and workers, each a process of its own. An async context manager; leaves none.

    `names` are theirs: `router`, or `router-2`; a `console` may be among them. `environment` is added to each one's.
    `max_payload_bytes` is the broker's largest message. Logs go to `folder`, one file per process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        models: Path | None,
        environment: Mapping[str, str] | None = None,
        names: Sequence[str] = ("router", "gateway", "worker"),
        max_payload_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self._folder = folder
        self._names = names
        self._ports = {name: free_port() for name in ("nats", *names)}
        self._nats_settings = NatsSettings(
            port=self._ports["nats"], store_dir=folder / "nats", max_payload_bytes=max_payload_bytes
        )
        self._nats = EmbeddedNats(self._nats_settings)
        self._environment = {
            **os.environ,
            "HEADRACE_NATS_URL": f"nats://127.0.0.1:{self._ports['nats']}",
            "HEADRACE_ROUTER_ACK_WAIT_S": "2",
            "HEADRACE_LOG_FORMAT": "json",
            **({"HEADRACE_MODELS": str(models)} if models else {}),
            **(environment or {}),
        }
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def address(self) -> str:
        """Of the gateway."""
        return self.address_of("gateway")

    def address_of(self, name: str) -> str:
        """Of a router or a gateway."""
        return f"127.0.0.1:{self._ports[name]}"

    @property
    def nats_url(self) -> str:
        return self._environment["HEADRACE_NATS_URL"]

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(lambda: None)  # the child watcher wants a running loop before the first child
        self._nats.start()
        try:
            for name in self._names:
                await self.start(name)
            await self.ready()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for each in ("console", "gateway", "worker", "router"):
            for name in [name for name in self._processes if _kind_of(name) == each]:
                await self.stop(name)
        self._nats.stop()

    async def start(self, name: str, **environment: str) -> None:
        """Starts a process, with this added to its environment; `ready` says when the mesh serves."""
        kind = _kind_of(name)
        if kind == "worker":
            routers = [self.address_of(other) for other in self._names if _kind_of(other) == "router"]
            place = [other for other in self._names if _kind_of(other) == "worker"].index(name) % len(routers)
            own = {"HEADRACE_WORKER_ROUTER": ",".join(routers[place:] + routers[:place])}
        else:
            own = {f"HEADRACE_{kind.upper()}_PORT": str(self._ports[name])}
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "headrace.cli", kind),
                env={**self._environment, **own, **environment},
                stdout=log,
                stderr=log,
            )

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    async def stop(self, name: str) -> int:
        """SIGTERM, and the exit code."""
        if self._processes[name].returncode is None:
            self._processes[name].send_signal(signal.SIGTERM)
        return await self.ended(name)

    async def ended(self, name: str) -> int:
        """The exit code of a process that is to end by itself."""
        process = self._processes.pop(name)
        try:
            return await asyncio.wait_for(process.wait(), 40)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{name} did not stop; its log:\n{self.log(name)[-2000:]}") from None

    async def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self._processes.pop(name)
        process.kill()
        await process.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def stop_nats(self) -> None:
        self._nats.stop()

    def start_nats(self) -> None:
        self._nats = EmbeddedNats(self._nats_settings)
        self._nats.start()

    def log(self, name: str) -> str:
        """What the process has logged so far."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def logs(self) -> str:
        """What all processes have logged so far."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._folder.glob("*.log")))

    async def ready(self) -> None:
        """Returns when the gateway lists a model with lanes."""
        async with asyncio.timeout(READY_S), HeadraceClient(self.address) as client:
            while True:
                try:
                    if any(model.lanes for model in await client.models()):
                        return
                except HeadraceError:
                    pass
                for name, process in self._processes.items():
                    code = process.returncode
                    assert code is None, f"{name} ended with {code}:\n{self.log(name)[-3000:]}"
                await asyncio.sleep(0.05)  # a start of processes has no event that a test could wait for

    async def accepts(self) -> None:
        """Returns when the gateway takes requests: it has its broker again."""
        await becomes(self.address, GATEWAY, serving=True)


def _kind_of(name: str) -> str:
    return name.partition("-")[0]
