"""A server that speaks just enough of the NATS protocol to say what a real one would say at a bad moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator


class NatsStub:
    """Greets with the given version and answers pings. `say` sends a line to every client."""

    def __init__(self, version: str) -> None:
        self._info = {"server_id": "stub", "version": version, "max_payload": 1_048_576, "headers": True}
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    def say(self, line: str) -> None:
        for writer in self._writers:
            writer.write(f"{line}\r\n".encode())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            writer.write(f"INFO {json.dumps(self._info)}\r\n".encode())
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@contextlib.asynccontextmanager
async def nats_stub(version: str = "2.15.0") -> AsyncIterator[NatsStub]:
    stub = NatsStub(version)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    stub.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield stub
