"""The broker restarts under requests that wait, run and end."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from headrace.contract.errors import Unavailable
from headrace.contract.values import Outcome, TokenChunk
from tests.integration.asking import Asking
from tests.integration.local_mesh import LocalMesh, local_mesh
from tests.nats_servers import NatsServer

pytestmark = pytest.mark.integration


class LongStream:
    """A stream that runs through an outage."""

    def __init__(self, mesh: LocalMesh, tokens: int) -> None:
        self.made = 0
        self._tokens = tokens
        self._grew = asyncio.Event()
        self._task = asyncio.create_task(self._read(mesh))

    async def _read(self, mesh: LocalMesh) -> Outcome:
        async for event in mesh.client.generate(
            model="fake", prompt="long", max_tokens=self._tokens, ignore_end=True
        ):
            if isinstance(event, TokenChunk):
                assert event.first_index == self.made, "no gap, no repeat"
                self.made += len(event.token_ids)
                self._grew.set()
            elif isinstance(event, Outcome):
                return event
        raise AssertionError("it ended without an outcome")

    async def grows(self, count: int) -> None:
        """Returns when it has made so many more tokens."""
        target = self.made + count
        async with asyncio.timeout(20):
            while self.made < target:
                self._grew.clear()
                await self._grew.wait()

    async def outcome(self) -> Outcome:
        return await asyncio.wait_for(self._task, 60)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_restart_loses_nothing(how: signal.Signals, tmp_path: Path) -> None:
    """What was accepted is answered once, what runs goes on, what is new is refused at once, and health says so."""
    with NatsServer(tmp_path / "nats") as server:
        async with local_mesh(tmp_path, server.url, step_s=0.01) as mesh:
            async with Asking(mesh.client, tokens=10) as asking:
                await asking.submit(30)
                stream = LongStream(mesh, 300)
                await stream.grows(5)
                await asking.some_end(2)
                await asyncio.to_thread(server.end, how)
                await mesh.gateway_is(False)
                await mesh.gateway_is(False, "")
                await mesh.router_is(False)
                await mesh.is_sound(False)
                await stream.grows(20)
                began_s = time.monotonic()
                with pytest.raises(Unavailable):
                    await mesh.client.submit(model="fake", prompt="p")
                assert time.monotonic() - began_s < 1.0, "no call hangs"
                await asyncio.to_thread(server.start)
                await mesh.gateway_is(True)
                await mesh.router_is(True)
                await mesh.is_sound(True)
                await asking.submit(5)
                await asking.some_end(2)
                assert (await stream.outcome()).usage.output_tokens == 300
            await asking.all_completed()
            assert await _results(mesh) >= set(asking.accepted)


async def _results(mesh: LocalMesh) -> set[str]:
    info = await mesh.nats.jetstream().stream_info("HEADRACE_RESULTS", subjects_filter="hr.v1.res.>")
    subjects = info.state.subjects or {}
    assert set(subjects.values()) == {1}
    return {subject.rpartition(".")[2] for subject in subjects}
