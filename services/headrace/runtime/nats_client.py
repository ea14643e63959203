"""nats-py's client, which no message from outside can make deaf.

Anybody who may publish chooses the bytes of a subject and of a header block, and the server passes on whatever holds no
blank or line break. The library ends its reading, or drops the connection and is sent the same message again, where a
subject is not UTF-8, holds a vertical tab or makes its line long, and where a header block is none. Nor does a broker
that answers late.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, TypeVar

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, AWAITING_MSG_PAYLOAD, CRLF_SIZE, Parser

from headrace.runtime.nats_reconnect import ReconnectingClient

log = structlog.get_logger(__name__)

_Answer = TypeVar("_Answer")

MAX_LINE_BYTES = 64 * 1024
"""The longest control line: a subject and a reply subject, of which the server takes 4 KiB each unless told otherwise.
More without a line break is no NATS server."""


class NatsClient(ReconnectingClient):
    """A client that takes every message: what is not UTF-8 in a subject reads as U+FFFD, a broken header block as
    none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps: Parser = LineParser(self)

    async def request(self, *args: Any, **options: Any) -> Msg:
        """As the library's, and a cancellation counts."""
        return await _heeding(super().request(*args, **options))

    async def flush(self, *args: Any, **options: Any) -> None:
        """As the library's, and a cancellation counts."""
        await _heeding(super().flush(*args, **options))

    async def _process_pong(self) -> None:
        """As the library's, which ends its reading where the flush that sent the ping has given up meanwhile."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)  # type: ignore[no-any-return, unused-ignore]
        except (UnicodeDecodeError, IndexError, ValueError):
            log.debug("nats.headers_unreadable", header_bytes=len(headers))
            return None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return self.msg_class(
            subject=subject.decode("utf-8", "replace"),
            reply=reply.decode("utf-8", "replace"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )


async def _heeding(waiting: Awaitable[_Answer]) -> _Answer:
    """What the library waits for; a cancellation that comes together with that counts: `asyncio.wait_for` of Python
    3.11 would swallow it, and the task go on for ever.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    answer = await waiting
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return answer


class LineParser(Parser):
    """Cuts control lines where the server does: at blanks. `buf`, `state`, `needed`, `header_needed`, `msg_arg` are the
    library's; it resets them when it connects anew.
    """

    async def parse(self, data: bytes = b"") -> None:
        """Takes what was read, and hands on every message that is whole. Raises ProtocolError."""
        self.buf.extend(data)
        while self.buf:
            if self.state == AWAITING_CONTROL_LINE:
                line = self._take_line()
                if line is None:
                    return
                await self._control(line)
            elif len(self.buf) < self.needed + CRLF_SIZE:
                return
            else:
                await self._message()

    def _take_line(self) -> bytes | None:
        end = self.buf.find(b"\r\n")
        if end < 0:
            if len(self.buf) > MAX_LINE_BYTES:
                raise ProtocolError("nats: a control line without end")
            return None
        line = bytes(self.buf[:end])
        del self.buf[: end + CRLF_SIZE]
        return line

    async def _control(self, line: bytes) -> None:
        kind, _, rest = line.partition(b" ")
        match kind.strip():
            case b"MSG":
                self._expect(rest, sizes=1)
            case b"HMSG":
                self._expect(rest, sizes=2)
            case b"PING":
                await self.nc._process_ping()
            case b"PONG":
                await self.nc._process_pong()
            case b"+OK":
                pass
            case b"-ERR":
                await self.nc._process_err(rest.decode("utf-8", "replace").strip().lower())
            case b"INFO":
                await self.nc._process_info(json.loads(rest))
            case _:
                raise ProtocolError("nats: unknown protocol")

    def _expect(self, rest: bytes, *, sizes: int) -> None:
        """A message follows: subject, subscription, perhaps a reply subject, and one or two sizes."""
        words = [word for word in rest.split(b" ") if word]
        head, numbers = words[:-sizes], words[-sizes:]
        try:
            subject, sid, *reply = head
            self.msg_arg = {"subject": subject, "sid": int(sid), "reply": reply[0] if reply else b""}
            self.header_needed = int(numbers[0]) if sizes > 1 else 0
            self.needed = int(numbers[-1])
        except ValueError:
            raise ProtocolError("nats: malformed MSG") from None
        self.state = AWAITING_MSG_PAYLOAD

    async def _message(self) -> None:
        split, end = self.header_needed, self.needed
        headers: Any = bytes(self.buf[:split]) if split else None
        payload = bytes(self.buf[split:end])
        del self.buf[: end + CRLF_SIZE]
        self.header_needed, self.state = 0, AWAITING_CONTROL_LINE
        told = self.msg_arg
        await self.nc._process_msg(told["sid"], told["subject"], told["reply"], payload, headers)


def parse_headers(block: bytes) -> dict[str, str]:
    """What a stored message's header block says: nothing where it is none, and no line that is none."""
    return Client._parse_header_lines(block.partition(b"\r\n")[2])
