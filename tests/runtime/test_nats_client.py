"""No message makes a client deaf: hostile subjects and header blocks, from a real server and in any pieces."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from urllib.parse import urlsplit

import pytest
from nats.aio.msg import Msg
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from headrace.runtime.nats_client import MAX_LINE_BYTES, LineParser
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_flush import flushed
from headrace.runtime.nats_server import EmbeddedNats
from tests.conftest import SettingsFor

SUBJECTS = [
    b"t.\xff\xfe",
    b"t.a\x0bb",
    b"t.a\x0cb",
    b"t.a\x00b",
    b"t.\xed\xa0\x80",
    b"t." + b"a" * 3900,
    "t.日本".encode(),
]
HEADERS = [
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    b"NATS/1.0 503 \xff\r\n\r\n",
    b"NATS/1.0",
    b"NATS/1.0\r\n",
    b"garbage",
    b"\xff",
    b"NATS/1.0\r\nA: \xff\r\n\xff: A\r\n: x\r\nno colon\r\n\r\n",
]


async def _publish(url: str, *packets: bytes) -> None:
    """With no client library, which would refuse most of these."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + b"".join(packets) + b"PING\r\n")
    async with asyncio.timeout(10):
        while (line := await reader.readline()) and not line.startswith(b"PONG"):
            pass
    writer.close()


@pytest.mark.integration
async def test_every_message_that_a_server_passes_on_is_heard(
    nats_server: EmbeddedNats, settings_for: SettingsFor
) -> None:
    """By the same connection as before: none of them ends it, or ends the reading."""
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    packets = [b"PUB %b 2\r\n{}\r\n" % subject for subject in SUBJECTS]
    packets += [b"HPUB t.h %d %d\r\n%b{}\r\n" % (len(block), len(block) + 2, block) for block in HEADERS]
    states = []
    async with connect(settings_for(nats_server).nats, "test", lambda state: states.append(state.link)) as nc:
        await nc.subscribe("t.>", cb=heard.put)
        await flushed(nc)
        await _publish(nats_server.url, *packets)
        async with asyncio.timeout(10):
            messages = [await heard.get() for _ in packets]
        assert [message.data for message in messages] == [b"{}"] * len(packets)
        assert messages[1].subject == "t.a\x0bb"
        assert messages[0].subject == "t.��"
        assert (messages[-1].headers or {}).get("A") == "�"
        await flushed(nc)
        assert len(states) == 1, "connected once, and never lost"


@pytest.mark.integration
async def test_a_broker_that_answers_late_is_heard(
    fresh_nats: EmbeddedNats, settings_for: SettingsFor
) -> None:
    """Who waited for its answer has given up; the connection is the same, and reads on."""
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    states = []
    assert fresh_nats.pid is not None
    async with connect(settings_for(fresh_nats).nats, "test", lambda state: states.append(state.link)) as nc:
        await nc.subscribe("t.>", cb=heard.put)
        await flushed(nc)
        os.kill(fresh_nats.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await flushed(nc)
        finally:
            os.kill(fresh_nats.pid, signal.SIGCONT)
        await nc.publish("t.late", b"{}")
        async with asyncio.timeout(10):
            assert (await heard.get()).data == b"{}"
            await flushed(nc)
        assert len(states) == 1, "connected once, and never lost"


class _Heard:
    """Stands in for the client."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    async def _process_msg(self, *message: object) -> None:
        self.heard.append(message)

    async def _process_ping(self) -> None:
        self.heard.append("ping")

    async def _process_pong(self) -> None:
        self.heard.append("pong")

    async def _process_err(self, text: str) -> None:
        self.heard.append(text)

    async def _process_info(self, info: dict[str, object]) -> None:
        self.heard.append(info)


ORDINARY = (
    b"PING\r\nPONG\r\n+OK\r\n-ERR 'Slow Consumer'\r\nINFO {\"a\":1}\r\nMSG a.b 7 2\r\nhi\r\n"
    b"MSG a.b 7 _INBOX.x 4\r\n\r\n\r\n\r\nHMSG a 12 12 14\r\nNATS/1.0\r\n\r\nhi\r\nHMSG a 12 r 12 12\r\n"
    b"NATS/1.0\r\n\r\n\r\nMSG a 1 0\r\n\r\n"
)


async def _parsed(parser_of: type[Parser], data: bytes, rng: random.Random | None = None) -> list[object]:
    told = _Heard()
    parser = parser_of(told)
    while data:
        size = len(data) if rng is None else rng.randint(1, 5)
        await parser.parse(data[:size])
        data = data[size:]
    return told.heard


async def test_what_a_server_says_reads_as_the_library_reads_it_in_whatever_pieces() -> None:
    expected = await _parsed(Parser, ORDINARY)
    assert len(expected) == 9
    assert await _parsed(LineParser, ORDINARY) == expected
    for seed in range(50):
        assert await _parsed(LineParser, ORDINARY, random.Random(seed)) == expected


@pytest.mark.parametrize(
    "said",
    [b"HELLO\r\n", b"MSG a\r\n", b"MSG a b c d e\r\n", b"HMSG a 1 x y\r\n", b"x" * (MAX_LINE_BYTES + 1)],
    ids=["unknown", "short", "no numbers", "no sizes", "endless"],
)
async def test_what_no_server_says_ends_the_connection(said: bytes) -> None:
    """With the library's own error, after which it connects anew; and nothing endless is kept."""
    with pytest.raises(ProtocolError):
        await _parsed(LineParser, said)


@pytest.mark.integration
async def test_a_cancellation_that_comes_with_the_answer_counts(
    nats_server: EmbeddedNats, settings_for: SettingsFor
) -> None:
    """`wait_for` of Python 3.11 swallows it: a loop that asks the broker would outlive its shutdown."""
    async with connect(settings_for(nats_server).nats, "test") as nc:
        asking: asyncio.Task[Msg]

        async def answer(message: Msg) -> None:
            await message.respond(b"")

        def cancel_with_the_answer(future: asyncio.Future[Msg]) -> None:
            asking.cancel()

        await nc.subscribe("ask", cb=answer)
        await nc.request("ask", timeout=10)  # makes the map of replies
        asking = asyncio.create_task(nc.request("ask", timeout=10))
        while not (waiting := list(nc._resp_map.values())):  # noqa: ASYNC110 — it is sent within a few turns
            await asyncio.sleep(0)
        waiting[0].add_done_callback(cancel_with_the_answer)
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.integration
async def test_a_cancellation_that_comes_with_the_end_of_a_flush_counts(
    nats_server: EmbeddedNats, settings_for: SettingsFor
) -> None:
    """As that which comes with an answer."""
    async with connect(settings_for(nats_server).nats, "test") as nc:
        flushing = asyncio.create_task(nc.flush())
        while not (waiting := list(nc._pongs)):  # noqa: ASYNC110 — it is sent within a few turns
            await asyncio.sleep(0)
        waiting[-1].add_done_callback(lambda _: flushing.cancel())
        with pytest.raises(asyncio.CancelledError):
            await flushing
