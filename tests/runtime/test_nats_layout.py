"""The layout on the broker: declared once however often, and what the broker then guarantees by itself."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ReplayPolicy, StreamInfo
from nats.js.errors import APIError, NotFoundError

from headrace.contract import subjects
from headrace.contract.errors import StartError, Unavailable
from headrace.contract.subjects import Queue
from headrace.contract.values import Priority
from headrace.runtime.nats_binary import find_nats_server
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_flush import flushed
from headrace.runtime.nats_layout import (
    JetStreamMissing,
    Layout,
    LayoutConflict,
    ensure_layout,
)
from headrace.runtime.nats_output import ServerOutput
from headrace.runtime.nats_queues import ensure_queue_consumer, list_queues
from headrace.runtime.nats_refusal import Refusal, refusal_of
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.nats_version import NatsTooOld
from headrace.runtime.settings import NatsSettings, load_settings
from tests.conftest import SettingsFor
from tests.nats_servers import NatsServer
from tests.runtime.nats_stub import nats_stub

pytestmark = pytest.mark.integration

QUEUE = Queue(model="m", priority=Priority.NORMAL, tenant="default").subject
STREAMS = (
    "HEADRACE_REQUESTS",
    "HEADRACE_RESULTS",
    "HEADRACE_DEAD",
    "KV_headrace_members",
    "KV_headrace_models",
    "OBJ_headrace_files",
    "OBJ_headrace_payloads",
)


async def test_declared_once(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """The first call makes every stream and bucket, the second none; the library finds the buckets."""
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        first = await ensure_layout(nc, settings)
        assert first.created == STREAMS
        assert (await ensure_layout(nc, settings)).created == ()
        members = await first.js.key_value(subjects.MEMBERS_BUCKET)
        await members.put("router.r1", b"127.0.0.1:7701")
        assert (await members.get("router.r1")).value == b"127.0.0.1:7701"
        await first.js.key_value(subjects.MODELS_BUCKET)
        files = await first.js.object_store(subjects.FILES_BUCKET)
        await files.put("a", b"content")
        assert (await files.get("a")).data == b"content"


async def test_processes_may_race(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """Many processes that declare at the same moment all succeed."""
    settings = settings_for(fresh_nats)

    async def one(index: int) -> Layout:
        async with connect(settings.nats, f"test-{index}") as nc:
            return await ensure_layout(nc, settings)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(index)) for index in range(8)]
    assert {name for task in tasks for name in task.result().created} == set(STREAMS)


async def test_a_stream_in_the_making(
    fresh_nats: EmbeddedNats, settings_for: SettingsFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster, a stream that another process makes has its name taken before it can be seen: that passes, so it
    is no reason to stop.
    """

    async def unseen(js: JetStreamContext, name: str) -> StreamInfo:
        raise NotFoundError(code=404, err_code=10059, description="stream not found")

    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = nc.jetstream()
        await js.add_stream(name=STREAMS[0], subjects=["other"])
        monkeypatch.setattr(JetStreamContext, "stream_info", unseen)
        with pytest.raises(Unavailable, match=f"{STREAMS[0]} is being made by another process"):
            await ensure_layout(nc, settings)


async def test_conflict(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """A stream with other settings is an error that lists every difference, and stays as it is."""
    here = settings_for(fresh_nats)
    other = settings_for(fresh_nats, **{"queues.max_messages_per_queue": 7, "queues.max_age_s": 60.0})
    async with connect(here.nats, "test") as nc:
        layout = await ensure_layout(nc, here)
        with pytest.raises(LayoutConflict) as caught:
            await ensure_layout(nc, other)
        conflict = caught.value
        assert conflict.stream == "HEADRACE_REQUESTS"
        assert [(d.setting, d.found, d.wanted) for d in conflict.differences] == [
            ("max_age", None, 60.0),
            ("max_msgs_per_subject", 10_000, 7),
        ]
        assert "nats stream edit HEADRACE_REQUESTS" in conflict.remedy
        kept = (await layout.js.stream_info("HEADRACE_REQUESTS")).config
        assert kept.max_msgs_per_subject == 10_000


async def test_somebody_elses_stream(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """A foreign stream that takes our subjects is a conflict too, not an obscure refusal."""
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        await nc.jetstream().add_stream(name="THEIRS", subjects=["hr.v1.req.a.>"])
        with pytest.raises(LayoutConflict, match="another stream"):
            await ensure_layout(nc, settings)


async def test_too_little_storage(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """Where the disk allowance is too small, the error says what to lower."""
    settings = settings_for(fresh_nats, **{"queues.max_bytes": 10**16})
    async with connect(settings.nats, "test") as nc:
        with pytest.raises(StartError, match="too little storage") as caught:
            await ensure_layout(nc, settings)
    assert "queues.max_bytes" in caught.value.remedy


async def test_too_old() -> None:
    """A server before 2.11 is refused with both versions, before anything is asked of it."""
    async with nats_stub("2.9.10") as stub:
        settings = load_settings({"nats.url": stub.url}, environ={})
        async with connect(settings.nats, "test") as nc:
            with pytest.raises(NatsTooOld, match=r"2\.9\.10.*2\.11\.0 or later") as caught:
                await ensure_layout(nc, settings)
    assert (caught.value.found, caught.value.required) == ("2.9.10", "2.11.0")


@contextlib.contextmanager
def server_without_jetstream(folder: Path) -> Iterator[str]:
    config = folder / "plain.conf"
    config.write_text('host: "127.0.0.1"\nport: -1\n')
    output = ServerOutput("127.0.0.1", 0)
    server = subprocess.Popen([find_nats_server().path, "--config", config], stderr=subprocess.PIPE)
    assert server.stderr is not None
    with server.stderr:
        try:
            while not output.ready and (line := server.stderr.readline()):
                output.feed(line.decode().rstrip())
            yield output.url
        finally:
            server.terminate()
            server.wait()


async def test_jetstream_missing(tmp_path: Path) -> None:
    """A server without JetStream is refused as that, at once."""
    with server_without_jetstream(tmp_path) as url:
        settings = load_settings({"nats.url": url}, environ={})
        async with connect(settings.nats, "test") as nc:
            with pytest.raises(JetStreamMissing, match="no JetStream"):
                await asyncio.wait_for(ensure_layout(nc, settings), 5)


async def test_no_answer() -> None:
    """A server that does not answer is Unavailable: trying again may help."""
    async with nats_stub() as stub:
        settings = load_settings({"nats.url": stub.url}, environ={})
        async with connect(settings.nats, "test") as nc:
            with pytest.raises(Unavailable):
                await ensure_layout(nc, settings, timeout_s=0.2)


async def test_one_outcome_per_request(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """The broker itself refuses a second outcome of a request: code 503, error 10077, "per subject"."""
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        subject = subjects.result_subject("default", "id1")
        await js.publish(subject, b"first")
        with pytest.raises(APIError) as caught:
            await js.publish(subject, b"second")
        refused = caught.value
        assert (refused.code, refused.err_code) == (503, 10077)
        assert refused.description == "maximum messages per subject exceeded"
        assert refusal_of(refused) is Refusal.SUBJECT_FULL
        kept = await js.get_msg(subjects.RESULTS_STREAM, subject=subject, direct=True)
        assert kept.data == b"first"


async def test_same_message_id_is_no_error(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """Within the duplicate window a repeated Nats-Msg-Id is acknowledged as duplicate: on both streams, and on the
    requests' stream across queues, since the window is the stream's.
    """
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        header = {subjects.HEADER_REQUEST_ID: "id1"}
        result = subjects.result_subject("default", "id1")
        assert not (await js.publish(result, b"first", headers=header)).duplicate
        assert (await js.publish(result, b"second", headers=header)).duplicate
        assert not (await js.publish(QUEUE, b"x", headers=header)).duplicate
        assert (await js.publish(QUEUE + "2", b"x", headers=header)).duplicate
        assert await list_queues(js) == {QUEUE: 1}


async def test_queue_limit(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """A full queue refuses its own requests (10077, "per subject") and no other queue's."""
    settings = settings_for(fresh_nats, **{"queues.max_messages_per_queue": 2})
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        await js.publish(QUEUE, b"1")
        await js.publish(QUEUE, b"2")
        with pytest.raises(APIError) as caught:
            await js.publish(QUEUE, b"3")
        assert caught.value.err_code == 10077
        assert refusal_of(caught.value) is Refusal.SUBJECT_FULL
        await js.publish(QUEUE + "2", b"1")
        assert await list_queues(js) == {QUEUE: 2, QUEUE + "2": 1}


async def test_a_full_server(tmp_path: Path) -> None:
    """A server that keeps as many bytes as it may refuses with another code than a full stream, and means the same."""
    with NatsServer(tmp_path, jetstream=["max_file_store: 1MB"]) as server:
        async with connect(NatsSettings(url=server.url), "test") as nc:
            js = nc.jetstream()
            await js.add_stream(name="ANY", subjects=["any.>"])
            with pytest.raises(APIError) as caught:
                for _ in range(10):
                    await js.publish("any.a", b"x" * 300_000)
    assert caught.value.err_code == 10023
    assert refusal_of(caught.value) is Refusal.STREAM_FULL


async def test_full_stream(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """A full stream has the same error code; only the description tells it from a full queue."""
    settings = settings_for(fresh_nats, **{"queues.max_bytes": 1024 * 1024})
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        await js.publish(QUEUE, b"x" * 700_000)
        with pytest.raises(APIError) as caught:
            await js.publish(QUEUE, b"x" * 700_000)
        assert (caught.value.err_code, caught.value.description) == (10077, "maximum bytes exceeded")
        assert refusal_of(caught.value) is Refusal.STREAM_FULL


async def test_refusals(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """Too large and not stored anywhere are told apart; no answer is no refusal."""
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        with pytest.raises(Exception, match="maximum payload") as large:
            await js.publish(QUEUE, b"x" * (8 * 1024 * 1024 + 1))
        assert refusal_of(large.value) is Refusal.TOO_LARGE
        with pytest.raises(Exception, match="no response from stream") as nowhere:
            await js.publish("not.ours", b"x")
        assert refusal_of(nowhere.value) is Refusal.NO_STREAM
        assert refusal_of(TimeoutError()) is None


async def test_new_requests_are_announced(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """What is queued is announced at once on hr.v1.seen.…: the producer's headers and the server's, without the body;
    a duplicate is not announced.
    """
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        seen = await nc.subscribe(subjects.SEEN_WILDCARD)
        headers = {subjects.HEADER_REQUEST_ID: "id1", "traceparent": "00-a-b-01", "ce-type": "t"}
        await js.publish(QUEUE, b"hello", headers=headers)
        await js.publish(QUEUE, b"hello", headers=headers)
        await js.publish(QUEUE, b"other words")
        first = await seen.next_msg(timeout=5)
        assert first.subject == "hr.v1.seen.m.normal.default"
        assert subjects.subject_of_seen(first.subject) == QUEUE
        assert first.data == b""
        assert first.headers is not None
        assert first.headers.pop("Nats-Time-Stamp").endswith("Z")
        number = int(first.headers.pop("Nats-Sequence"))
        assert first.headers == headers | {
            "Nats-Stream": "HEADRACE_REQUESTS",
            "Nats-Subject": QUEUE,
            "Nats-Last-Sequence": "0",
            "Nats-Msg-Size": "5",
        }
        second = await seen.next_msg(timeout=5)
        assert second.headers is not None
        assert int(second.headers["Nats-Sequence"]) == number + 1
        assert second.headers["Nats-Last-Sequence"] == str(number)


async def test_queue_consumer(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """Every router gets the same consumer of a queue; it pulls that queue alone and redelivers without end."""
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        names = [await ensure_queue_consumer(js, QUEUE, ack_wait_s=6, idle_s=3600) for _ in range(2)]
        assert names == ["q-m~normal~default"] * 2
        config = (await js.consumer_info(subjects.REQUESTS_STREAM, names[0])).config
        assert (config.ack_wait, config.max_deliver, config.inactive_threshold) == (6, -1, 3600)
        other = await ensure_queue_consumer(js, QUEUE + "2", ack_wait_s=6, idle_s=3600)
        await js.publish(QUEUE, b"mine")
        await js.publish(QUEUE + "2", b"other")
        pull = await js.pull_subscribe_bind(consumer=other, stream=subjects.REQUESTS_STREAM)
        (message,) = await pull.fetch(1, timeout=5)
        assert message.data == b"other"
        await message.ack_sync(timeout=5)
        assert await list_queues(js) == {QUEUE: 1}, "what is acknowledged is gone"


async def test_a_consumer_of_other_settings_gets_these(
    fresh_nats: EmbeddedNats, settings_for: SettingsFor
) -> None:
    """A wait that was changed between two starts is changed at the broker; what was delivered stays so."""
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        name = await ensure_queue_consumer(js, QUEUE, ack_wait_s=60, idle_s=3600)
        await js.publish(QUEUE, b"x")
        pull = await js.pull_subscribe_bind(consumer=name, stream=subjects.REQUESTS_STREAM)
        (message,) = await pull.fetch(1, timeout=5)
        assert await ensure_queue_consumer(js, QUEUE, ack_wait_s=3, idle_s=60) == name
        info = await js.consumer_info(subjects.REQUESTS_STREAM, name)
        assert (info.config.ack_wait, info.config.inactive_threshold) == (3, 60)
        assert info.num_ack_pending == 1
        await message.ack_sync(timeout=5)
        assert await list_queues(js) == {}


async def test_a_consumer_that_cannot_be_changed_is_made_anew(
    fresh_nats: EmbeddedNats, settings_for: SettingsFor
) -> None:
    """Whoever made it otherwise: its queue is served, and what it had delivered is delivered again."""
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        name = subjects.consumer_name(QUEUE)
        other = ConsumerConfig(
            name=name,
            durable_name=name,
            filter_subject=QUEUE,
            ack_policy=AckPolicy.EXPLICIT,
            replay_policy=ReplayPolicy.ORIGINAL,
        )
        await js.add_consumer(subjects.REQUESTS_STREAM, other)
        await js.publish(QUEUE, b"x")
        pull = await js.pull_subscribe_bind(consumer=name, stream=subjects.REQUESTS_STREAM)
        await pull.fetch(1, timeout=5)
        assert await ensure_queue_consumer(js, QUEUE, ack_wait_s=6, idle_s=3600) == name
        assert (await js.consumer_info(subjects.REQUESTS_STREAM, name)).config.ack_wait == 6
        (again,) = await pull.fetch(1, timeout=5)
        assert again.data == b"x"


async def test_the_numbers_of_requests_never_come_again(
    fresh_nats: EmbeddedNats, settings_for: SettingsFor
) -> None:
    """An acknowledgement of a request of a stream that was deleted takes none off the stream that follows it."""
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js

        async def pulled() -> Msg:
            await js.publish(QUEUE, b"x")
            name = await ensure_queue_consumer(js, QUEUE, ack_wait_s=60, idle_s=3600)
            pull = await js.pull_subscribe_bind(consumer=name, stream=subjects.REQUESTS_STREAM)
            (message,) = await pull.fetch(1, timeout=5)
            return message

        first = await pulled()
        await js.delete_stream(subjects.REQUESTS_STREAM)
        assert (await ensure_layout(nc, settings)).created == ("HEADRACE_REQUESTS",)
        second = await pulled()
        assert second.metadata.sequence.stream > first.metadata.sequence.stream
        await first.ack()
        await flushed(nc)
        assert await list_queues(js) == {QUEUE: 1}


async def test_odd_queue_has_a_consumer(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> None:
    """A subject that names no proper queue can be pulled too, so that what lies there is answered and goes."""
    settings = settings_for(fresh_nats)
    async with connect(settings.nats, "test") as nc:
        js = (await ensure_layout(nc, settings)).js
        odd = "hr.v1.req.a/b\\c.né"
        await js.publish(odd, b"x")
        (found,) = await list_queues(js)
        name = await ensure_queue_consumer(js, found, ack_wait_s=6, idle_s=3600)
        pull = await js.pull_subscribe_bind(consumer=name, stream=subjects.REQUESTS_STREAM)
        (message,) = await pull.fetch(1, timeout=5)
        assert message.subject == odd


async def test_more_than_a_thousand_queues(tmp_path: Path) -> None:
    """Each has its consumer; left to itself, the server would refuse the 1,001st."""
    with NatsServer(tmp_path) as server:
        settings = load_settings({"nats.url": server.url}, environ={})
        async with connect(settings.nats, "test") as nc:
            js = (await ensure_layout(nc, settings)).js
            for start in range(0, 1_050, 50):
                some = (f"hr.v1.req.m.normal.t{number}" for number in range(start, start + 50))
                await asyncio.gather(
                    *(ensure_queue_consumer(js, subject, ack_wait_s=6, idle_s=3600) for subject in some)
                )


async def test_consumer_without_a_stream(fresh_nats: EmbeddedNats) -> None:
    """Where the layout is missing, asking for a consumer or the queues is Unavailable with the reason."""
    nats_settings = NatsSettings(url=fresh_nats.url)
    async with connect(nats_settings, "test") as nc:
        js = nc.jetstream()
        with pytest.raises(Unavailable, match="stream not found"):
            await ensure_queue_consumer(js, QUEUE, ack_wait_s=6, idle_s=3600)
        with pytest.raises(Unavailable, match="stream not found"):
            await list_queues(js)
