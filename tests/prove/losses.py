"""That a stream goes on when what carried it is killed."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from headrace.client.client import HeadraceClient
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.integration.processes import Processes
from tests.ports import free_port
from tests.prove.answers import real_model

PROMPT = "Write a long story about a river and a mill."


@dataclass(slots=True)
class Seen:
    """What a client saw of one stream."""

    ids: list[int] = field(default_factory=list)
    faults: int = 0
    longest_pause_s: float = 0.0
    outcome: Outcome | None = None


async def watch(
    client: HeadraceClient, model: str, tokens: int, at: int, act: Callable[[], Awaitable[None]]
) -> Seen:
    """Streams a request and acts when token `at` has come; counts every gap, repeat and missing end as a fault."""
    seen = Seen()
    last_s = None
    acted: asyncio.Task[None] | None = None
    events = client.generate(model=model, prompt=PROMPT, max_tokens=tokens, ignore_end=True)
    async with asyncio.timeout(120):
        async for event in events:
            if isinstance(event, TokenChunk):
                now_s = time.monotonic()
                seen.longest_pause_s = max(seen.longest_pause_s, now_s - (last_s or now_s))
                last_s = now_s
                seen.faults += event.first_index != len(seen.ids)
                seen.ids.extend(event.token_ids)
                if len(seen.ids) >= at and acted is None:
                    acted = asyncio.ensure_future(_run(act))
            elif isinstance(event, Outcome):
                seen.outcome = event
    if acted is not None:
        await acted
    seen.faults += seen.outcome is None or seen.outcome.kind is not OutcomeKind.COMPLETED
    seen.faults += len(seen.ids) != tokens
    return seen


async def _run(act: Callable[[], Awaitable[None]]) -> None:
    await act()


async def worker(folder: Path) -> Mapping[str, float]:
    """The real model under `headrace up`, whose supervisor brings the worker back."""
    root = (await asyncio.to_thread(real_model)).path.parent
    address = f"127.0.0.1:{(port := free_port())}"
    router_port = free_port()
    settings = {
        "models": root,
        "nats.port": free_port(),
        "router.port": router_port,
        "worker.router": f"127.0.0.1:{router_port}",
        "gateway.port": port,
    }
    flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
    up = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.cli", "up", "--no-console", "--no-pull",
        "--state", str(folder / "state"), *flags,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert up.stdout is not None
    try:
        async with asyncio.timeout(60):
            while not re.search(rb"ready", line := await up.stdout.readline()):
                assert line, "headrace up ended before it was ready"
        drain = asyncio.ensure_future(up.stdout.read())

        async def kill() -> None:
            _worker_of(up.pid).kill()

        async with HeadraceClient(address) as client:
            seen = await watch(client, "smollm2", 100, 30, kill)
            assert seen.outcome is not None
            assert seen.outcome.usage.attempts > 1, "the worker was killed too late"
    finally:
        up.send_signal(signal.SIGINT)
        await up.wait()
    await drain
    return {"faults": float(seen.faults), "stall": seen.longest_pause_s}


def _worker_of(pid: int) -> psutil.Process:
    for child in psutil.Process(pid).children(recursive=True):
        line = child.cmdline()
        if "headrace.cli" in line and "worker" in line:
            return child
    raise AssertionError("no worker runs")


async def router(folder: Path) -> Mapping[str, float]:
    """A lone router that comes back: the broker delivers again what it held. Fake engine, for its exact pace."""
    async with Processes(folder, models=_fake(folder)) as mesh, HeadraceClient(mesh.address) as client:

        async def lose() -> None:
            await mesh.kill("router")
            await mesh.start("router")

        seen = await watch(client, "fake", 150, 30, lose)
    return {"faults": float(seen.faults), "stall": seen.longest_pause_s}


async def broker(folder: Path) -> Mapping[str, float]:
    """20 requests are accepted, most of them wait; NATS restarts; all are answered."""
    async with Processes(folder, models=_fake(folder)) as mesh, HeadraceClient(mesh.address) as client:
        accepted = await asyncio.gather(
            *(
                client.submit(model="fake", prompt=f"request {number}", max_tokens=60, ignore_end=True)
                for number in range(20)
            )
        )
        await asyncio.to_thread(mesh.stop_nats)
        mesh.start_nats()
        outcomes = await asyncio.gather(*(_answer(client, one.request_id) for one in accepted))
    return {"unanswered": float(sum(outcome is not OutcomeKind.COMPLETED for outcome in outcomes))}


async def _answer(client: HeadraceClient, request_id: str) -> OutcomeKind | None:
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        try:
            return (await client.result(request_id, wait_s=10)).kind
        except Exception:  # the gateway may be without its broker for a moment: that is the point
            await asyncio.sleep(0.2)
    return None


def _fake(folder: Path) -> Path:
    install_fake_model(ModelStore(folder / "models"), timing=FakeTiming(step_s=0.01))
    return folder / "models"
