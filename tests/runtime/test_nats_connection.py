"""The connection to NATS: it waits for the server, comes back, tells its state once, and keeps secrets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError
from pydantic import SecretStr
from structlog.testing import capture_logs

from headrace.contract.errors import StartError
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_flush import flushed
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.nats_state import Link, LinkState, NatsHealth
from headrace.runtime.nats_watch import backoff_s
from headrace.runtime.settings import NatsSettings
from tests.ports import free_port
from tests.runtime.nats_stub import nats_stub
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.integration

FAST = {"reconnect_wait_s": 0.02, "reconnect_max_wait_s": 0.1}


def settings(**more: object) -> NatsSettings:
    return NatsSettings.model_validate(FAST | more)


class States:
    """The states of a connection in order, to wait on."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[LinkState] = asyncio.Queue()

    def __call__(self, state: LinkState) -> None:
        self.queue.put_nowait(state)

    async def until(self, link: Link) -> LinkState:
        async with asyncio.timeout(20):
            while (state := await self.queue.get()).link is not link:
                pass
            return state


async def test_server_that_comes_later(tmp_path: Path) -> None:
    """Without a server it waits and tries; one line says so; when the server comes it connects and says so."""
    port = free_port()
    states = States()
    connected = asyncio.Event()

    async def use() -> None:
        async with connect(settings(port=port), "test", states) as nc:
            assert nc.is_connected
            connected.set()

    with capture_logs() as lines:
        task = asyncio.create_task(use())
        state = await states.until(Link.CONNECTING)
        assert state.problem == "connection refused"
        async with EmbeddedNats(NatsSettings(port=port, store_dir=tmp_path)):
            async with asyncio.timeout(20):
                await connected.wait()
            await task
    told = [line["event"] for line in lines]
    assert told[0].startswith(
        f"NATS at nats://127.0.0.1:{port} is not reachable: connection refused; retrying in 0.0"
    )
    assert told[1:] == [f"connected to NATS at nats://127.0.0.1:{port}"]
    assert lines[1]["failed_attempts"] >= 1


async def test_waiting_can_be_cancelled() -> None:
    """Cancelled while it waits for a server, it ends at once and leaves no task behind."""
    before = asyncio.all_tasks()
    states = States()

    async def use() -> None:
        async with connect(
            settings(port=free_port(), reconnect_wait_s=60, reconnect_max_wait_s=60), "test", states
        ):
            raise AssertionError("there is no server")

    task = asyncio.create_task(use())
    await states.until(Link.CONNECTING)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert asyncio.all_tasks() == before


async def test_server_restart(tmp_path: Path) -> None:
    """A restarted server is found again; what was subscribed and published meanwhile is there; each change is told."""
    port = free_port()
    server_settings = NatsSettings(port=port, store_dir=tmp_path)
    states = States()
    with capture_logs() as lines:
        server = EmbeddedNats(server_settings)
        async with server:
            connection = connect(settings(port=port), "test", states)
            nc = await connection.__aenter__()
            subscription = await nc.subscribe("word")
            await flushed(nc)
        assert (await states.until(Link.DISCONNECTED)).problem
        await nc.publish("word", b"said while away")
        async with server:
            await states.until(Link.CONNECTED)
            assert (await subscription.next_msg(timeout=5)).data == b"said while away"
            await connection.__aexit__(None, None, None)
            assert (await states.until(Link.CLOSED)).problem == ""
    told = [line["event"].split(" nats://")[0] for line in lines]
    assert told[0] == told[-1] == "connected to NATS at"
    assert told[1] == "the connection to NATS at"
    assert told.count("NATS at") <= 2, "an unreachable server is told once, not at every attempt"


async def test_a_network_that_swallows(nats_server: EmbeddedNats) -> None:
    """It is noticed before two pings are over, with all buffers full; who waits for an answer learns it then; and the
    connection is made anew, without waiting for what the old one could not send.
    """
    ping_s = 1.2
    states = States()
    port = int(nats_server.url.rpartition(":")[2])
    async with (
        TcpProxy(port) as proxy,
        connect(settings(url=proxy.url, ping_interval_s=ping_s), "test", states) as nc,
    ):
        proxy.swallow()
        began_s = time.monotonic()
        waiting = asyncio.create_task(nc.request("nobody.answers", timeout=60))
        for _ in range(20):
            await nc.publish("bulk", b"x" * 1_000_000)
        assert (await states.until(Link.DISCONNECTED)).problem == "it no longer answers"
        assert time.monotonic() - began_s < 2.5 * ping_s
        with pytest.raises(ConnectionReconnectingError):
            await asyncio.wait_for(waiting, 5)
        await proxy.heal()
        await states.until(Link.CONNECTED)
        assert await nc.rtt() >= 0


async def test_a_caller_that_is_cancelled_as_the_answer_comes(nats_server: EmbeddedNats) -> None:
    """Is cancelled: the end of a process must not depend on the moment."""
    async with connect(settings(url=nats_server.url), "test") as nc:
        asked = asyncio.Event()

        async def never(message: Msg) -> None:
            asked.set()

        await nc.subscribe("slow", cb=never)
        asking = asyncio.create_task(nc.request("slow", timeout=60))
        await asyncio.wait_for(asked.wait(), 5)
        (answer,) = nc._resp_map.values()
        answer.set_result(Msg(nc))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_leaving_sends_what_was_published(nats_server: EmbeddedNats) -> None:
    """What was published last is with the server when the block is left."""
    here = settings(url=nats_server.url)
    async with connect(here, "reader") as reader:
        subscription = await reader.subscribe("last.words")
        await flushed(reader)
        async with connect(here, "writer") as writer:
            for _ in range(100):
                await writer.publish("last.words", b"x" * 1000)
        for _ in range(100):
            await subscription.next_msg(timeout=5)


async def test_leaving_without_a_server(tmp_path: Path) -> None:
    """Where the server is away at the end, leaving takes no longer than its limit and tells what is lost."""
    states = States()
    server = EmbeddedNats(NatsSettings(port=0, store_dir=tmp_path))
    with capture_logs() as lines:
        async with server:
            connection = connect(settings(url=server.url), "test", states)
            nc = await connection.__aenter__()
        await states.until(Link.DISCONNECTED)
        await nc.publish("word", b"lost")
        await asyncio.wait_for(connection.__aexit__(None, None, None), 15)
    assert any(line.get("unsent_bytes", 0) > 4 for line in lines)


async def test_wrong_password_is_told_and_not_shown(tmp_path: Path) -> None:
    """Refused credentials are told as that, tried again, and never written down."""
    secured = NatsSettings(port=0, store_dir=tmp_path, user="me", password=SecretStr("right"))
    async with EmbeddedNats(secured) as server:
        wrong = server.url.replace("nats://", "nats://me:hunter2@")
        states = States()

        async def use(url: str) -> None:
            async with connect(settings(url=url), "test", states):
                pass

        with capture_logs() as lines:
            task = asyncio.create_task(use(wrong))
            state = await states.until(Link.CONNECTING)
            task.cancel()
            await asyncio.wait([task])
        assert "refuses these credentials" in state.problem
        assert lines
        assert "hunter2" not in repr(lines)
        await use(server.url.replace("nats://", "nats://me:right@"))


async def test_ended_for_good() -> None:
    """Where the server throws us out, the state says so for good, so that the process can end."""
    health = NatsHealth()
    async with nats_stub() as stub, connect(settings(url=stub.url), "test", health.record):
        assert health.connected
        with capture_logs() as lines:
            stub.say("-ERR 'maximum connections exceeded'")
            async with asyncio.timeout(10):
                await health.wait_closed()
        assert health.state.link is Link.CLOSED
        assert health.state.problem == "maximum connections exceeded"
        assert [line["log_level"] for line in lines] == ["error"]


async def test_dropped_messages_are_told(nats_server: EmbeddedNats) -> None:
    """A subscription whose buffer is full loses messages; that is logged, once for many."""
    async with connect(settings(url=nats_server.url), "test") as nc:
        entered, proceed = asyncio.Event(), asyncio.Event()

        async def slow(message: object) -> None:
            entered.set()
            await proceed.wait()

        await nc.subscribe("flood", cb=slow, pending_msgs_limit=1)
        with capture_logs() as lines:
            for _ in range(10):
                await nc.publish("flood", b"x")
            await flushed(nc)
            await asyncio.wait_for(entered.wait(), 5)
        proceed.set()
    assert [line["event"] for line in lines] == ["NATS messages were dropped: a subscription is too slow"]
    assert lines[0]["subject"] == "flood"


async def test_settings_that_can_never_work(tmp_path: Path) -> None:
    """A certificate file that is none fails at once, instead of being tried for ever."""
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(StartError, match="tls_ca_file"):
        async with connect(settings(tls_ca_file=tmp_path / "ca.pem"), "test"):
            pass


def test_backoff() -> None:
    """Waits grow from the base to the longest, keep at least half of it, and never overflow."""
    some = NatsSettings(reconnect_wait_s=0.5, reconnect_max_wait_s=4)
    for attempt, most in ((1, 0.5), (2, 1), (3, 2), (4, 4), (5, 4), (10_000, 4)):
        assert most / 2 <= backoff_s(some, attempt) <= most
