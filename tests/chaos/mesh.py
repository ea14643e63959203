"""The mesh under test: every process a real one, started, hit and started again by name."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.client.admin import AdminClient
from headrace.contract.errors import HeadraceError
from headrace.runtime.child_process import tied_to_parent
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings
from headrace.worker.fake_engine import CRASH_EXIT
from tests.chaos.network import Network
from tests.chaos.readiness import healthy, lanes_listed
from tests.chaos.schedule import GATEWAYS, NATS, ROUTERS, VICTIMS, WORKERS, kind_of
from tests.ports import named_ports

DRAIN_GRACE_S = 1.0
"""What each process is given to drain: too short for some of what runs, so that it is cut and goes on elsewhere."""
MAX_PAYLOAD_BYTES = 65_536
"""Of a message of the broker under test: small, so that some requests are larger."""
STOP_S = 20.0
"""A process that has not ended so long after SIGTERM does not end: grace, last words, last calls, a slow machine."""
ASKED_S = 3.0
"""For a gateway to pass on that a process is to drain; then the next is asked, and a signal comes last."""
STARTED_S = 15.0
"""The age at which a process listens to SIGTERM, on a loaded machine."""

SETTINGS = {
    "HEADRACE_ROUTER_ACK_WAIT_S": "2",
    "HEADRACE_ROUTER_WORKER_TIMEOUT_S": "2",
    "HEADRACE_ROUTER_DRAIN_GRACE_S": str(DRAIN_GRACE_S),
    "HEADRACE_GATEWAY_DRAIN_GRACE_S": str(DRAIN_GRACE_S),
    "HEADRACE_WORKER_DRAIN_GRACE_S": str(DRAIN_GRACE_S),
    "HEADRACE_LOG_FORMAT": "json",
}
"""Times that decide how soon a loss is noticed, short as an operator in a hurry would set them; defaults otherwise."""


RESTARTED_S = 0.5
"""After a crash, as a supervisor waits."""


@dataclass(slots=True, kw_only=True)
class Life:
    """One life of a process."""

    name: str
    number: int
    process: asyncio.subprocess.Process
    began_s: float
    ending: bool = False
    """Whether its end was asked for."""

    @property
    def member(self) -> str:
        """Its id among the members."""
        return f"{self.name}-{self.number}"

    @property
    def pid(self) -> int:
        return self.process.pid


class Mesh:
    """Two routers, two gateways, workers and a nats-server, which reach one another through `network` alone, or without
    it where `direct`. An async context manager; leaves no process behind.

    Logs go to `folder`, one file per name; the processes' temporary files to `folder/tmp`.
    """

    def __init__(
        self, folder: Path, *, models: Path, environment: Mapping[str, str], direct: bool = False
    ) -> None:
        self.folder = folder
        self._direct = direct
        self.ports = named_ports(VICTIMS)
        self.lives: dict[str, Life] = {}
        self.network = Network({name: self.ports[name] for name in (*ROUTERS, NATS)}, self._pids)
        self.problems: list[str] = []
        """Ends that nobody asked for, and exit codes that are none."""
        self.crashes = 0
        """Of workers, by requests that make the fake engine crash."""
        self._counts = dict.fromkeys(VICTIMS, 0)
        self._starts = {name: asyncio.Lock() for name in VICTIMS}
        """Held while a crashed process is started again, and by whoever is about to end one."""
        self._watches: set[asyncio.Task[None]] = set()
        self._closing = False
        self._nats = self._new_nats()
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")},
            "TMPDIR": str(self.temporary),
            "HEADRACE_MODELS": str(models),
            **SETTINGS,
            **environment,
        }

    def _pids(self) -> dict[int, str]:
        """Of those that run."""
        return {life.pid: name for name, life in self.lives.items() if life.process.returncode is None}

    def _reach(self, server: str) -> str:
        """The address at which the others dial it."""
        return f"127.0.0.1:{self.ports[server]}" if self._direct else self.network.address(server)

    @property
    def nats_url(self) -> str:
        """Not through the network: clients are never cut off."""
        return f"nats://127.0.0.1:{self.ports[NATS]}"

    def address(self, gateway: str) -> str:
        return f"127.0.0.1:{self.ports[gateway]}"

    async def __aenter__(self) -> Self:
        await self.network.__aenter__()
        try:
            for name in (NATS, *ROUTERS, *GATEWAYS):
                await self.start(name)
            for router in ROUTERS:  # or all workers would join whichever is there first
                await self._router_serves(router)
            for name in WORKERS:
                await self.start(name)
            await self.ready()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.kill_all()
        self._nats.release()
        await self.network.__aexit__(None, None, None)
        await asyncio.gather(*self._watches, return_exceptions=True)

    async def start(self, name: str) -> None:
        """Starts a process; `ready` says when the mesh serves."""
        self._counts[name] += 1
        argv, own = self._command(name)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *argv, env={**self._environment, **own}, stdout=log, stderr=log, start_new_session=True
            )
        life = self.lives[name] = Life(
            name=name, number=self._counts[name], process=process, began_s=time.monotonic()
        )
        watch = asyncio.create_task(self._watch(life), name=f"watch {name}")
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    def _command(self, name: str) -> tuple[list[str], dict[str, str]]:
        if name == NATS:
            self._nats.release()
            self._nats = self._new_nats()
            return self._nats.prepare(), {}
        member = f"{name}-{self._counts[name]}"
        own = {"HEADRACE_NATS_URL": f"nats://{self._reach(NATS)}"}
        match kind := kind_of(name):
            case "worker":
                routers = ",".join(self._reach(router) for router in _routers_of(name))
                own = {"HEADRACE_WORKER_ROUTER": routers, "HEADRACE_WORKER_NAME": member}
            case "router":
                own |= {
                    "HEADRACE_ROUTER_ID": member,
                    "HEADRACE_ROUTER_PORT": str(self.ports[name]),
                    "HEADRACE_ROUTER_ADVERTISE": self._reach(name),
                }
            case _:
                own |= {"HEADRACE_GATEWAY_ID": member, "HEADRACE_GATEWAY_PORT": str(self.ports[name])}
        return tied_to_parent([sys.executable, "-m", "headrace.cli", kind]), own

    def _new_nats(self) -> EmbeddedNats:
        return EmbeddedNats(
            NatsSettings(
                port=self.ports[NATS], store_dir=self.folder / "nats", max_payload_bytes=MAX_PAYLOAD_BYTES
            )
        )

    async def _watch(self, life: Life) -> None:
        """A process that ends by itself is told of, and started again as a supervisor would."""
        code = await life.process.wait()
        if life.ending or self.lives.get(life.name) is not life:
            return
        if code == CRASH_EXIT and kind_of(life.name) == "worker":
            self.crashes += 1
        else:
            self.problems.append(f"{life.name} (life {life.number}) ended by itself with exit code {code}")
        await asyncio.sleep(RESTARTED_S)
        async with self._starts[life.name]:
            # Whoever hit it meanwhile starts it again, too.
            if not self._closing and not life.ending:
                await self.start(life.name)

    async def kill(self, name: str) -> None:
        """SIGKILL, and the end."""
        life = await self._ending(name)
        if life.process.returncode is None:
            life.process.kill()
        await life.process.wait()

    async def _ending(self, name: str) -> Life:
        """From now on its end is no news, and whoever asked starts it again."""
        async with self._starts[name]:
            life = self.lives[name]
            life.ending = True
            return life

    def signal(self, name: str, number: signal.Signals) -> None:
        life = self.lives[name]
        if life.process.returncode is None:
            life.process.send_signal(number)

    async def drain(self, name: str, *, by_service: bool = False) -> float:
        """SIGTERM, or a word to a gateway, and the end; gives how long it took. An exit code but 0 is a problem."""
        life = await self._ending(name)
        began_s = time.monotonic()
        if not (by_service and await self._drain_by_service(life)):
            self.signal(name, signal.SIGTERM)
        try:
            code = await asyncio.wait_for(life.process.wait(), STOP_S)
        except TimeoutError:
            self.problems.append(f"{name} (life {life.number}) did not end within {STOP_S:g} s of SIGTERM")
            await self.kill(name)
        else:
            if code not in self._clean(life, began_s):
                self.problems.append(f"{name} (life {life.number}) ended with exit code {code} on SIGTERM")
        return time.monotonic() - began_s

    async def _drain_by_service(self, life: Life) -> bool:
        """Whether a gateway passed it on."""
        for gateway in GATEWAYS:
            async with AdminClient(self.address(gateway)) as admin:
                try:
                    async with asyncio.timeout(ASKED_S):
                        await admin.drain(life.member)
                except (HeadraceError, TimeoutError):
                    continue  # it is hit itself, or cut off
                return True
        return False

    @staticmethod
    def _clean(life: Life, told_s: float) -> tuple[int, ...]:
        """The exit codes that are no problem."""
        if life.name == NATS:
            return 0, 1  # it ends with 1 on SIGTERM
        if told_s - life.began_s < STARTED_S:
            return 0, -signal.SIGTERM  # it had no handler yet
        return (0,)

    def kill_all(self) -> None:
        self._closing = True
        for life in self.lives.values():
            life.ending = True
            if life.process.returncode is None:
                life.process.kill()

    async def serves(self, name: str) -> None:
        """Returns when a process that was started serves, and the mesh with it."""
        if kind_of(name) == "router":
            await self._router_serves(name)
        await self.ready()

    async def _router_serves(self, name: str) -> None:
        await healthy(f"127.0.0.1:{self.ports[name]}", "headrace.v1.RouterService")

    async def ready(self) -> None:
        """Returns when both gateways list the lanes of all workers."""
        lanes = int(self._environment.get("HEADRACE_WORKER_LANES", "1")) * len(WORKERS)
        for gateway in GATEWAYS:
            await lanes_listed(self.address(gateway), lanes)


def _routers_of(worker: str) -> tuple[str, ...]:
    """Half begin at the first router, half at the second: each has a spare one beside, and some elsewhere."""
    first = WORKERS.index(worker) % len(ROUTERS)
    return (*ROUTERS[first:], *ROUTERS[:first])
