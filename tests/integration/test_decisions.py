"""What the scheduler of a real mesh decides: on record, and told to those who wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.values import OutcomeKind, Priority, QueuePosition, TokenChunk
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.router.recorder import Differing, replay
from tests.integration.processes import Processes

pytestmark = pytest.mark.integration

LIMIT_S = 60.0
PRIORITIES = (Priority.BATCH, Priority.NORMAL, Priority.REALTIME)


async def _ask(
    client: HeadraceClient, number: int, priority: Priority, begun: asyncio.Event | None = None
) -> list[QueuePosition]:
    """The places that it was told of; it is answered in the end. `begun` is set with its first token."""
    places = []
    stream = client.generate(
        model="fake",
        prompt="x" * (10 + number % 5),
        max_tokens=100 if begun else 30,
        ignore_end=True,
        priority=priority,
    )
    async for event in stream:
        if isinstance(event, QueuePosition):
            places.append(event)
        elif isinstance(event, TokenChunk) and begun is not None:
            begun.set()
    return places


async def test_a_real_run_decides_again_as_it_did(tmp_path: Path) -> None:
    """From its log alone; and those who wait are told how their place changes."""
    install_fake_model(ModelStore(tmp_path / "models"), timing=FakeTiming(step_s=0.01))
    log = tmp_path / "events.jsonl"
    environment = {
        "HEADRACE_ROUTER_EVENT_LOG": str(log),
        "HEADRACE_ROUTER_POSITION_EVERY_S": "0.1",
        "HEADRACE_WORKER_LANES": "1",
        "HEADRACE_WORKER_MAX_BATCH": "2",
    }
    async with (
        asyncio.timeout(LIMIT_S),
        Processes(tmp_path, models=tmp_path / "models", environment=environment) as mesh,
    ):
        await mesh.ready()
        async with HeadraceClient(mesh.address) as client:
            begun = asyncio.Event()
            async with asyncio.TaskGroup() as asking:
                first = asking.create_task(_ask(client, 0, Priority.BATCH, begun))
                await begun.wait()
                others = [
                    asking.create_task(_ask(client, number, PRIORITIES[number % len(PRIORITIES)]))
                    for number in range(1, 18)
                ]
    places = [task.result() for task in (first, *others)]
    assert any(len(told) >= 2 for told in places), "a place that changes is told anew"
    decided = list(replay(log))
    assert not [found for found in decided if isinstance(found, Differing)]
    assert len(decided) > 18 * 4
    text = log.read_text()
    assert '"Pause"' in text, "urgent requests came while others ran"
    assert '"Resume"' in text
    assert OutcomeKind.FAILED.value not in text
