"""The network between the processes: every connection of theirs goes through this process, which can cut it.

Each server has one address here, whoever dials it. Who dialled is known by the socket's owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.chaos.sockets import owner_of
from tests.chaos.wire import Cut, Wire

Pair = tuple[str, str]
"""The process that dials, and the server that it dials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parted:
    cut: Cut
    of_near: bool


class Network:
    """An async context manager. `ports` has where each server can be dialled, by name.

    Writers: `part` and `join` write `_parted`; the latest cut of a pair is the one that holds.
    """

    def __init__(self, servers: Mapping[str, int], pids: Callable[[], Mapping[int, str]]) -> None:
        """`servers` has the servers' own ports by name; `pids()` the names of the processes that run."""
        self.ports: dict[str, int] = {}
        self._servers = servers
        self._pids = pids
        self._listeners: list[asyncio.Server] = []
        self._wires: set[tuple[str, Wire]] = set()
        self._parted: dict[Pair, list[_Parted]] = {}

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for name in self._servers:
            listener = await loop.create_server(self._accept(name), "127.0.0.1", 0)
            self._listeners.append(listener)
            self.ports[name] = listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for listener in self._listeners:
            listener.close()
        for _, wire in list(self._wires):
            wire.close()
        await asyncio.sleep(0)  # the aborts are carried out in the next turn

    def address(self, server: str) -> str:
        return f"127.0.0.1:{self.ports[server]}"

    def part(self, pairs: Iterable[Pair], cut: Cut, *, of_near: bool) -> Callable[[], None]:
        """Cuts each pair off; the function that is given ends that."""
        parted = _Parted(cut=cut, of_near=of_near)
        pairs = tuple(pairs)
        for pair in pairs:
            self._parted.setdefault(pair, []).append(parted)
            self._apply(pair)

        def join() -> None:
            for pair in pairs:
                self._parted[pair].remove(parted)
                self._apply(pair)

        return join

    def _apply(self, pair: Pair) -> None:
        for server, wire in list(self._wires):
            if (wire.owner, server) == pair:
                self._rule(wire, server)

    def _rule(self, wire: Wire, server: str) -> None:
        parted = self._parted.get((wire.owner, server))
        if parted:
            wire.obey(parted[-1].cut, of_near=parted[-1].of_near)
        else:
            wire.obey(None)

    def _accept(self, server: str) -> Callable[[], asyncio.Protocol]:
        def begun(wire: Wire, near: asyncio.Transport) -> None:
            dialled, own = near.get_extra_info("peername"), near.get_extra_info("sockname")
            wire.owner = owner_of(dialled[1], own[1], self._pids())
            if wire.owner:
                self._rule(wire, server)
            else:
                wire.reset()  # who dialled is gone again

        def accept() -> asyncio.Protocol:
            port = self._servers[server]
            wire = Wire(port, begun=begun, gone=lambda wire: self._wires.discard((server, wire)))
            self._wires.add((server, wire))
            return wire.near

        return accept
