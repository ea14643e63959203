"""No path lets content out: not into a log, a span, an error's text, or what an operator is shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from nats.aio.client import Client

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Accepted, Outcome, TokenChunk
from headrace.runtime.nats_client import NatsClient
from headrace.v1 import common_pb2, inference_pb2
from headrace.v1.inference_pb2_grpc import InferenceServiceStub
from tests.integration.processes import Processes
from tests.otlp_receiver import OtlpReceiver

pytestmark = pytest.mark.integration

SECRET = "XYZZY7SECRET"
"""Stands in every prompt, message and stop string."""


class Heard:
    """What clients were told, and what they were given as output."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.outputs: list[str] = []
        self.ids: list[str] = []

    async def ask(self, client: HeadraceClient, *, leave_after: int = 0, **ask: object) -> None:
        """One request, to its end or until so many tokens have come."""
        text, tokens = "", 0
        try:
            async with aclosing(client.generate(model=str(ask.pop("model", "fake")), **ask)) as events:  # type: ignore[arg-type]
                async for event in events:
                    if isinstance(event, Accepted):
                        self.ids.append(event.request_id)
                    elif isinstance(event, TokenChunk):
                        text += event.text
                        tokens += len(event.token_ids)
                        if leave_after and tokens >= leave_after:
                            break
                    elif isinstance(event, Outcome) and event.failure is not None:
                        self.errors.append(event.failure.message)
        except HeadraceError as error:
            self.errors.append(str(error))
        if len(text) >= 20:
            self.outputs.append(text)


async def every_way(client: HeadraceClient, heard: Heard) -> None:
    """Requests over gRPC that end in every way there is."""
    prompt = f"say {SECRET} again"
    chat = [{"role": "system", "content": SECRET}, {"role": "user", "content": prompt}]
    await heard.ask(client, prompt=prompt, max_tokens=40, ignore_end=True)
    await heard.ask(client, messages=chat, max_tokens=40, ignore_end=True, stop=[SECRET])
    await heard.ask(
        client, prompt=f"\x00{SECRET}", max_tokens=5
    )  # the engine fails at once, everywhere: a dead letter
    await heard.ask(client, prompt=f"\x01{SECRET}", max_tokens=50, ignore_end=True)  # and after some steps
    await heard.ask(client, prompt=prompt, max_tokens=4000, ignore_end=True, timeout_s=0.3)
    await heard.ask(client, prompt=prompt, max_tokens=4000, ignore_end=True, leave_after=5)
    await heard.ask(client, prompt=f"{SECRET} " * 2_000, max_tokens=5)  # longer than the model's context
    await heard.ask(client, prompt=prompt, messages=chat, max_tokens=5)
    await heard.ask(client, prompt=prompt, max_tokens=5, stop=[SECRET] * 100)
    await heard.ask(client, prompt=prompt, max_tokens=5, temperature=-1.0)
    await heard.ask(client, prompt=prompt, model="nobody-has-it", max_tokens=5)
    await heard.ask(client, prompt=prompt, max_tokens=5, request_id=SECRET)
    await heard.ask(client, messages=[{"role": SECRET, "content": prompt}], max_tokens=5)


async def hostile_bytes(address: str, heard: Heard) -> None:
    """What a broken client sends: bytes that are no message, with the secret in them."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_stream("/headrace.v1.InferenceService/Generate")
        for body in (b"\xff" + SECRET.encode(), SECRET.encode() * 10):
            try:
                async for _ in call(body):
                    pass
            except grpc.aio.AioRpcError as error:
                heard.errors.append(error.details() or "")
        stub = InferenceServiceStub(channel)
        try:
            await stub.Submit(
                inference_pb2.SubmitRequest(
                    request=inference_pb2.GenerateRequest(
                        model="fake", prompt=SECRET, sampling=common_pb2.Sampling(top_p=7)
                    )
                )
            )
        except grpc.aio.AioRpcError as error:
            heard.errors.append(error.details() or "")


async def over_nats(nc: Client, heard: Heard) -> None:
    """Raw producers: one that is answered, and messages that nobody can read."""
    js = nc.jetstream()
    subject = "hr.v1.req.fake.normal.default"
    inbox = nc.new_inbox()
    events = await nc.subscribe(inbox)
    ask = {"prompt": f"say {SECRET}", "max_tokens": 30, "sampling": {"ignore_end": True}, "reply_to": inbox}
    await js.publish(subject, json.dumps(ask).encode())
    text = ""
    async with asyncio.timeout(20):
        async for message in events.messages:
            event = json.loads(message.data)
            text += event.get("tokens", {}).get("text", "")
            if "finished" in event:
                break
    heard.outputs.append(text)
    bodies = (
        f'{{"prompt": "{SECRET}"'.encode(),
        json.dumps({"prompt": SECRET, "max_tokens": SECRET}).encode(),
        json.dumps({SECRET: SECRET}).encode(),
        json.dumps({"prompt": SECRET, "reply_to": f"hr.v1.req.{SECRET}"}).encode(),
        SECRET.encode(),
    )
    for body in bodies:
        await js.publish(subject, body)
    await js.publish(subject, SECRET.encode(), headers={"Content-Type": "application/protobuf"})


@pytest.fixture
async def collector() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as receiver:
        yield receiver


async def test_no_path_lets_content_out(
    fake_store: Callable[[float], Path], tmp_path: Path, collector: OtlpReceiver
) -> None:
    """Marked prompts and the outputs they led to, over every path and failure, are in no log, span, error text, list of
    members or trace that an operator reads, nor in what `headrace dead list` tells.
    """
    heard = Heard()
    environment = collector.environment() | {"HEADRACE_LOG_LEVEL": "debug"}
    async with Processes(tmp_path, models=fake_store(0.002), environment=environment) as mesh:
        nc = NatsClient()
        await nc.connect(mesh.nats_url)
        async with HeadraceClient(mesh.address) as client, AdminClient(mesh.address) as admin:
            await every_way(client, heard)
            await hostile_bytes(mesh.address, heard)
            await over_nats(nc, heard)
            listed = await _cli("dead", "list", "--nats-url", mesh.nats_url, "--json")
            shown = [json.dumps(asdict(member), default=str) for member in await admin.members()]
            found = await _until(lambda: _all_told(admin, heard.ids))
            shown += found
        await nc.close()
    assert len(heard.outputs) >= 3
    assert len(heard.errors) >= 9
    marked = [SECRET, *(output[3:23] for output in heard.outputs)]
    for where, said in {
        "a log": mesh.logs(),
        "an error": "\n".join(heard.errors),
        "what operators are shown": "\n".join(shown),
        "the list of dead letters": listed,
    }.items():
        _has_none_of(marked, said.encode(), where)
    _has_none_of(marked, collector.payload, "a span")


def _has_none_of(marked: list[str], said: bytes, where: str) -> None:
    for mark in marked:
        at = said.find(mark.encode())
        assert at < 0, f"{where} shows content: {said[max(0, at - 200) : at + 60]!r}"


async def _all_told(admin: AdminClient, ids: list[str]) -> list[str]:
    """All that is remembered, once it has the end of every request; else nothing."""
    listed = await admin.traces(1000)
    if {each.request_id for each in listed.traces if each.outcome} < set(ids):
        return []
    found = [asdict(await admin.trace(each.request_id or each.trace_id)) for each in listed.traces]
    return [json.dumps(each, default=str) for each in (asdict(listed), *found)]


async def _until(find: Callable[[], Awaitable[list[str]]]) -> list[str]:
    async with asyncio.timeout(20):
        while True:  # spans are told every quarter of a second
            if found := await find():
                return found
            await asyncio.sleep(0.2)


async def _cli(*arguments: str) -> str:
    import sys

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return said.decode()


async def test_captured_content_is_redacted_and_cut(
    fake_store: Callable[[float], Path], tmp_path: Path, collector: OtlpReceiver
) -> None:
    """For the tenants that an operator names, and nobody else; the start says so."""
    environment = collector.environment() | {
        "HEADRACE_TRACES_CAPTURE_TENANTS": "open",
        "HEADRACE_TRACES_CAPTURE_REDACT": r"[0-9]{4,}",
        "HEADRACE_TRACES_CAPTURE_MAX_CHARS": "30",
    }
    async with Processes(tmp_path, models=fake_store(0.002), environment=environment) as mesh:
        async with HeadraceClient(mesh.address) as client:
            prompt = f"card 12345678 {'a' * 100}"
            await client.complete(model="fake", prompt=prompt, max_tokens=5, tenant="open", ignore_end=True)
            await client.complete(model="fake", prompt=f"{SECRET}", max_tokens=5, ignore_end=True)
        spans = await collector.wait_for(lambda spans: sum("process hr" in s.name for s in spans) == 2)
        assert "content.captured" in mesh.log("router")
    holds = {s.attributes["headrace.tenant"]: s for s in spans if s.name.startswith("process hr")}
    captured = json.loads(holds["open"].attributes["gen_ai.input.messages"])
    assert captured[0]["parts"][0]["content"] == f"card (redacted) {'a' * 14}… (86 more)"
    assert "gen_ai.output.messages" in holds["open"].attributes
    assert "gen_ai.input.messages" not in holds["default"].attributes
    assert SECRET.encode() not in collector.payload
