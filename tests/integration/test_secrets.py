"""No path lets content out: not into a log, a span, a metric, an error's text, or what an operator is shown."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import nats
import pytest

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.integration.processes import Processes
from tests.integration.secret_paths import (
    EMBEDS,
    SECRET,
    SHADOWS,
    Heard,
    every_way,
    hostile_bytes,
    other_tasks,
    over_nats,
    prompts_that_are_kept,
)
from tests.integration.test_metrics import console_of
from tests.models.tiny_tasks import install_tiny_translator
from tests.otlp_receiver import OtlpReceiver
from tests.prometheus import fetch

pytestmark = pytest.mark.integration

TOKEN = "a-token-of-operators-of-this-test"
NAMES = ("router", "gateway", "worker", "console")


class Console:
    """The console of the mesh, as a browser hears it; `said` is all that it answered."""

    def __init__(self, address: str) -> None:
        self.said: list[bytes] = []
        self._address = address

    async def get(self, path: str, method: str = "GET") -> bytes:
        """One answer. With an operator's token: what is shown to nobody else is searched, too."""

        def ask() -> bytes:
            headers = {"authorization": f"Bearer {TOKEN}"}
            request = urllib.request.Request(f"http://{self._address}{path}", method=method, headers=headers)
            try:
                answer = urllib.request.urlopen(request, timeout=20)
            except urllib.error.HTTPError as refusal:  # what it says then is searched, too
                answer = refusal
            with answer:
                body: bytes = answer.read()
                return body

        self.said.append(await asyncio.to_thread(ask))
        return self.said[-1]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """A page is open meanwhile, and hears what changes."""
        reader, writer = await asyncio.open_connection(*self._address.split(":"))
        writer.write(b"GET /api/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")

        async def hear() -> None:
            while more := await reader.read(1 << 16):
                self.said.append(more)

        hearing = asyncio.create_task(hear())
        try:
            yield
        finally:
            hearing.cancel()
            writer.close()

    async def every_page(self) -> None:
        """All that can be asked for, and the replay of every dead letter that can be."""
        for path in ("/", "/api/state", "/api/traces?failed=1"):
            await self.get(path)
        for trace in json.loads(await self.get("/api/traces"))["traces"]:
            await self.get(f"/api/traces/{trace['request_id'] or trace['trace_id']}")
        for letter in json.loads(await self.get("/api/dead"))["letters"]:
            if letter["replayable"]:
                await self.get(f"/api/dead/{letter['number']}/replay", "POST")


@pytest.fixture
async def collector() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as receiver:
        yield receiver


async def test_no_path_lets_content_out(tmp_path: Path, collector: OtlpReceiver) -> None:
    """Marked prompts and the outputs they led to, over every path and failure, are in no log, span, metric, error text,
    list of members or trace that an operator reads, nor in what the console and the commands tell.
    """
    heard = Heard()
    environment = collector.environment() | {
        "HEADRACE_LOG_LEVEL": "debug",
        "HEADRACE_METRICS_PORT": "0",
        "HEADRACE_CONSOLE_TOKEN": TOKEN,
    }
    async with Processes(tmp_path, models=_store(tmp_path), environment=environment, names=NAMES) as mesh:
        console = Console(mesh.address_of("console"))
        async with (
            HeadraceClient(mesh.address) as client,
            AdminClient(mesh.address) as admin,
            await nats.connect(mesh.nats_url) as nc,
        ):
            async with console.watched():
                await every_way(client, heard)
                await other_tasks(client, heard)
                await prompts_that_are_kept(client, admin, heard)
                await hostile_bytes(mesh.address, heard)
                await over_nats(nc, heard)
                shown = [json.dumps(asdict(member), default=str) for member in await admin.members()]
                shown += await _all_told(admin, heard.ids)
                said = await _commands(mesh, shown)
                await console.every_page()
            metrics = [
                await fetch(f"http://{member.metrics}/metrics")
                for member in await admin.members()
                if member.metrics
            ]
            metrics.append(await fetch(f"http://{console_of(mesh)}/metrics"))
    assert len(heard.outputs) >= 4
    assert len(heard.vectors) == 80
    assert len(heard.errors) >= 20
    assert len(metrics) == len(NAMES)
    for where, bodies in {
        "a log": [mesh.logs().encode()],
        "an error": [error.encode() for error in heard.errors],
        "what operators are shown": [one.encode() for one in shown],
        "a command": [one.encode() for one in said],
        "a metrics endpoint": [one.encode() for one in metrics],
        "the console": console.said,
        "a span or a metric over OTLP": [collector.payload],
    }.items():
        said_there = b"\n".join(bodies)
        assert len(said_there) > 500, f"{where} says next to nothing: it was not looked at"
        _has_none_of(heard.marks(), said_there, where)


def _store(folder: Path) -> Path:
    store = ModelStore(folder / "models")
    for name in ("fake", SHADOWS):
        install_fake_model(store, name, timing=FakeTiming(step_s=0.002))
    install_fake_model(store, EMBEDS, task="embed")
    install_tiny_translator(store)
    return store.root


def _has_none_of(marked: list[bytes], said: bytes, where: str) -> None:
    for mark in marked:
        at = said.find(mark)
        assert at < 0, f"{where} shows content: {said[max(0, at - 200) : at + 60]!r}"


async def _all_told(admin: AdminClient, ids: list[str]) -> list[str]:
    """All that the gateway remembers, once it has the end of every request."""
    async with asyncio.timeout(20):
        while True:  # spans are told every quarter of a second
            listed = await admin.traces(1000)
            if {each.request_id for each in listed.traces if each.outcome} >= set(ids):
                break
            await asyncio.sleep(0.2)
    found = [asdict(await admin.trace(each.request_id or each.trace_id)) for each in listed.traces]
    return [json.dumps(each, default=str) for each in (asdict(listed), *found)]


async def _commands(mesh: Processes, shown: list[str]) -> list[str]:
    """What the commands of operators print."""
    at, broker = ("--address", mesh.address), ("--nats-url", mesh.nats_url)
    letters = await _cli("dead", "list", *broker, "--json")
    number = str(json.loads(letters.splitlines()[0])["letter"])
    failed = re.search(r'"request_id": "([^"]+)"[^{}]*"outcome": "failed"', "".join(shown))
    assert failed, "some have failed"
    return [
        letters,
        await _cli("dead", "show", number, *broker),
        await _cli("top", "--once", *broker),
        await _cli("members", *at),
        await _cli("traces", *at),
        await _cli("trace", failed[1], *at),
        await _cli("model", "alias", "list", *at),
    ]


async def _cli(*arguments: str) -> str:
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
