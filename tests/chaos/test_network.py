"""The network does to connections what a cut says, and to no others."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.chaos import sockets
from tests.chaos.network import Network
from tests.chaos.wire import Cut

WAIT_S = 5.0
SILENCE_S = 0.2
"""In which what passes would have passed many times."""
PAIR = ("client", "server")


class Peer:
    """A connection through the network, seen from the client; the server answers each line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    async def says(self, line: bytes) -> None:
        self._writer.write(line + b"\n")
        await self._writer.drain()

    async def hears(self) -> bytes:
        """The next line; b"" where the connection has ended."""
        async with asyncio.timeout(WAIT_S):
            try:
                return (await self.reader.readline()).rstrip()
            except ConnectionError:
                return b""

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(SILENCE_S):
                await self.reader.readline()
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        return False

    def ends(self) -> None:
        self._writer.close()


class Server:
    """Answers each line, and remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.left = asyncio.Event()
        self.news = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                async with self.news:
                    self.heard.append(line.rstrip())
                    self.news.notify_all()
                writer.write(b"re " + line)
        except ConnectionError:
            pass
        finally:
            self.left.set()
            writer.close()

    async def hears(self, line: bytes) -> None:
        async with asyncio.timeout(WAIT_S), self.news:
            await self.news.wait_for(lambda: line in self.heard)


@asynccontextmanager
async def through(name: str = "client") -> AsyncIterator[tuple[Network, Server]]:
    """A network in front of a server. All that dials is this process, under `name`."""
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, Network({"server": port}, lambda: {os.getpid(): name}) as network:
        yield network, server


async def dial(network: Network) -> Peer:
    return Peer(*await asyncio.open_connection("127.0.0.1", network.ports["server"]))


async def test_it_passes_everything_on() -> None:
    """Both ways, more than a buffer holds, and the end."""
    async with through() as (network, server):
        peer = await dial(network)
        long = b"x" * 50_000
        for _ in range(20):
            await peer.says(long)
        for _ in range(20):
            assert await peer.hears() == b"re " + long
        peer.ends()
        await asyncio.wait_for(server.left.wait(), WAIT_S)


@pytest.mark.parametrize("of_near", [True, False])
async def test_a_blackhole_swallows_nothing_and_lets_nothing_through(of_near: bool) -> None:
    """Neither what runs nor what is dialled meanwhile; afterwards all arrives."""
    async with through() as (network, server):
        peer = await dial(network)
        await peer.says(b"one")
        assert await peer.hears() == b"re one"
        join = network.part([PAIR], Cut.BLACKHOLE, of_near=of_near)
        late = await dial(network)
        await peer.says(b"two")
        await late.says(b"three")
        assert await peer.hears_nothing()
        assert server.heard == [b"one"]
        join()
        assert await peer.hears() == b"re two"
        assert await late.hears() == b"re three"


async def test_one_way_is_open_the_other_is_not() -> None:
    """`of_near`: what the client says is not heard; else what the server says."""
    async with through() as (network, server):
        peer = await dial(network)
        await peer.says(b"one")
        assert await peer.hears() == b"re one"
        join = network.part([PAIR], Cut.ONE_WAY, of_near=False)
        await peer.says(b"two")
        await server.hears(b"two")
        assert await peer.hears_nothing()
        join()
        assert await peer.hears() == b"re two"
        join = network.part([PAIR], Cut.ONE_WAY, of_near=True)
        await peer.says(b"three")
        assert await peer.hears_nothing()
        assert b"three" not in server.heard
        join()
        assert await peer.hears() == b"re three"


async def test_refused_connections_are_reset_until_it_is_over() -> None:
    """Those that run, and new ones."""
    async with through() as (network, server):
        peer = await dial(network)
        await peer.says(b"one")
        assert await peer.hears() == b"re one"
        join = network.part([PAIR], Cut.REFUSE, of_near=True)
        assert await peer.hears() == b""
        await asyncio.wait_for(server.left.wait(), WAIT_S)
        assert await (await dial(network)).hears() == b""
        join()
        again = await dial(network)
        await again.says(b"two")
        assert await again.hears() == b"re two"


@pytest.mark.parametrize("of_near", [True, False])
async def test_of_a_half_open_connection_one_end_learns_only_afterwards(of_near: bool) -> None:
    """It is never mended."""
    async with through() as (network, server):
        peer = await dial(network)
        await peer.says(b"one")
        assert await peer.hears() == b"re one"
        join = network.part([PAIR], Cut.HALF_OPEN, of_near=of_near)
        if of_near:
            await asyncio.wait_for(server.left.wait(), WAIT_S)
            assert await peer.hears_nothing()
        else:
            assert await peer.hears() == b""
            assert not server.left.is_set()
        join()
        assert await peer.hears() == b""
        await asyncio.wait_for(server.left.wait(), WAIT_S)


async def test_others_are_not_cut() -> None:
    """Who dialled is known by its socket."""
    async with through("another") as (network, _):
        peer = await dial(network)
        network.part([PAIR], Cut.REFUSE, of_near=True)
        await peer.says(b"one")
        assert await peer.hears() == b"re one"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("asked", [True, False])
def test_a_sockets_owner(monkeypatch: pytest.MonkeyPatch, family: socket.AddressFamily, asked: bool) -> None:
    """By the kernel's word or, where it gives none, by its tables; of either family; nobody's once it is closed."""
    if not asked:
        monkeypatch.setattr(sockets, "NETLINK_SOCK_DIAG", 31)  # that family of messages is nobody's
    pids = {os.getppid(): "another", os.getpid(): "this"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer_port = listener.getsockname()[1]
        address = "127.0.0.1" if family == socket.AF_INET else "::ffff:127.0.0.1"
        with socket.socket(family) as dialling:
            dialling.connect((address, peer_port))
            port = dialling.getsockname()[1]
            assert bool(sockets._asked_of_kernel(port, peer_port)) is asked
            # A table can miss a socket while those of other tests come and go.
            assert "this" in [sockets.owner_of(port, peer_port, pids) for _ in range(1 if asked else 20)]
            assert sockets.owner_of(port, peer_port, {os.getppid(): "another"}) == ""
        assert sockets.owner_of(port, peer_port, pids) == ""
