"""A NATS client that sends whatever bytes it is told to: the libraries refuse most of what a hostile one would send."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from headrace.runtime.nats_client import LineParser


@dataclass(slots=True)
class Stored:
    """What JetStream answered to a publish: the place in the stream, or None where it refused the message."""

    sequence: int | None
    duplicate: bool = False


class RawNats:
    """One connection. An async context manager."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._inbox = f"_INBOX.hostile.{id(self)}"
        self._number = 0
        self._waiting: dict[str, asyncio.Future[Stored]] = {}
        self._pong = asyncio.Event()
        self._parser = LineParser(self)

    async def __aenter__(self) -> Self:
        parts = urlsplit(self._url)
        self._reader, self._writer = await asyncio.open_connection(parts.hostname, parts.port)
        await self._reader.readline()
        self.send(b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n')
        self.send(f"SUB {self._inbox}.* 1\r\n".encode())
        self._reading = asyncio.create_task(self._read(), name="raw nats")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._reading.cancel()
        self._writer.close()

    def send(self, raw: bytes) -> None:
        self._writer.write(raw)

    async def flush(self) -> None:
        """Returns when the server has read everything."""
        self._pong.clear()
        self.send(b"PING\r\n")
        await self._writer.drain()
        async with asyncio.timeout(30):
            await self._pong.wait()

    def publish(self, subject: bytes, body: bytes, block: bytes | None = None, reply: bytes = b"") -> None:
        """`block` is the whole header block, be it one or not; None = no headers."""
        head = subject + (b" " + reply if reply else b"")
        if block is None:
            self.send(b"PUB %b %d\r\n%b\r\n" % (head, len(body), body))
        else:
            self.send(b"HPUB %b %d %d\r\n%b%b\r\n" % (head, len(block), len(block) + len(body), block, body))

    def store(self, subject: bytes, body: bytes, block: bytes | None = None) -> asyncio.Future[Stored]:
        """Publishes to a stream; the future has what became of it."""
        self._number += 1
        token = str(self._number)
        answer = self._waiting[token] = asyncio.get_running_loop().create_future()
        self.publish(subject, body, block, f"{self._inbox}.{token}".encode())
        return answer

    async def _read(self) -> None:
        while data := await self._reader.read(65536):
            await self._parser.parse(data)

    # What the parser calls.

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, payload: bytes, headers: bytes | None
    ) -> None:
        answer = self._waiting.pop(subject.decode().rpartition(".")[2], None)
        if answer is None or answer.done():
            return
        told = json.loads(payload) if payload else {}
        refused = not told or "error" in told
        answer.set_result(Stored(None if refused else told.get("seq"), bool(told.get("duplicate"))))

    async def _process_ping(self) -> None:
        self.send(b"PONG\r\n")

    async def _process_pong(self) -> None:
        self._pong.set()

    async def _process_err(self, text: str) -> None:
        pass  # the server's word on a subject that it passes on all the same

    async def _process_info(self, info: dict[str, object]) -> None:
        pass
