"""A network between a client and a server that the test can break in the two ways there are."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK_BYTES = 64 * 1024


class TcpProxy:
    """Passes bytes on to `port` of this machine. An async context manager; has a port of its own.

    - `swallow`: connections stay open and nothing goes through them, and new ones are taken and get no word.
    - `refuse`: connections are reset, and new ones are refused.
    - `heal`: all is as it was; what waited in a swallowing network arrives.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self._flows = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """For a broker behind it."""
        return f"nats://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def swallow(self) -> None:
        self._flows.clear()

    async def refuse(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def heal(self) -> None:
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            await self._flows.wait()
            back, there = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers.add(there)
            done = {
                asyncio.ensure_future(self._pass_on(reader, there)),
                asyncio.ensure_future(self._pass_on(back, writer)),
            }
            try:
                await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for passing in done:
                    passing.cancel()
                await asyncio.gather(*done, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the server is not there, or the test is over
        finally:
            for one in (writer, there):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
