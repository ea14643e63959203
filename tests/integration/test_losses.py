"""Processes are killed under running streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk
from tests.integration.processes import Processes

pytestmark = pytest.mark.integration

PROMPT = "count"
TOKENS = 150


async def _streamed(
    client: HeadraceClient, at_token: int, then: Callable[[], object]
) -> tuple[list[int], str, Outcome]:
    """Streams a request, does something in the middle, and gives what came; fails at a gap or a repeat."""
    ids: list[int] = []
    text = ""
    done = False
    async with asyncio.timeout(60):
        async for event in client.generate(model="fake", prompt=PROMPT, max_tokens=TOKENS, ignore_end=True):
            if isinstance(event, TokenChunk):
                assert event.first_index == len(ids), "no gap, no repeat"
                ids.extend(event.token_ids)
                text += event.text
                if len(ids) >= at_token and not done:
                    done = True
                    result = then()
                    if asyncio.iscoroutine(result):
                        await result
            elif isinstance(event, Outcome):
                return ids, text, event
    raise AssertionError("the stream ended without an outcome")


async def _undisturbed(client: HeadraceClient) -> Outcome:
    return await client.complete(model="fake", prompt=PROMPT, max_tokens=TOKENS, ignore_end=True)


async def test_a_killed_workers_stream_goes_on(fake_store: Callable[[float], Path], tmp_path: Path) -> None:
    """From the next token, when a worker is there again; the whole is what the undisturbed run gives."""
    async with Processes(tmp_path, models=fake_store(0.01)) as mesh, HeadraceClient(mesh.address) as client:
        expected = await _undisturbed(client)

        async def lose() -> None:
            await mesh.kill("worker")
            await mesh.start("worker")

        ids, text, outcome = await _streamed(client, 30, lose)
        assert (tuple(ids), text) == (expected.token_ids, expected.text)
        assert outcome.kind is OutcomeKind.COMPLETED
        assert outcome.usage.attempts == 2


async def test_a_killed_routers_stream_goes_on(fake_store: Callable[[float], Path], tmp_path: Path) -> None:
    """The broker delivers the request again to the router that comes back, which goes on after what the client has."""
    async with Processes(tmp_path, models=fake_store(0.01)) as mesh, HeadraceClient(mesh.address) as client:
        expected = await _undisturbed(client)

        async def lose() -> None:
            await mesh.kill("router")
            await mesh.start("router")

        ids, text, outcome = await _streamed(client, 30, lose)
        assert (tuple(ids), text) == (expected.token_ids, expected.text)
        assert outcome.kind is OutcomeKind.COMPLETED


async def test_a_stream_outlives_a_restart_of_the_broker(
    fake_store: Callable[[float], Path], tmp_path: Path
) -> None:
    """Tokens do not pass through it, and the outcome waits for it; what was accepted is there afterwards."""
    async with Processes(tmp_path, models=fake_store(0.01)) as mesh, HeadraceClient(mesh.address) as client:
        expected = await _undisturbed(client)

        async def restart() -> None:
            await asyncio.to_thread(mesh.stop_nats)
            mesh.start_nats()

        ids, text, outcome = await _streamed(client, 30, restart)
        assert (tuple(ids), text) == (expected.token_ids, expected.text)
        assert outcome.kind is OutcomeKind.COMPLETED
        await mesh.accepts()
        assert (await _undisturbed(client)).text == expected.text, "the mesh serves as before"


async def test_all_processes_drain_on_sigterm_with_exit_code_0(
    fake_store: Callable[[float], Path], tmp_path: Path
) -> None:
    """Also in the middle of a stream, which the worker ends before it goes."""
    async with Processes(tmp_path, models=fake_store(0.01)) as mesh, HeadraceClient(mesh.address) as client:
        codes: list[int] = []

        async def drain() -> None:
            codes.append(await mesh.stop("worker"))

        ids, _, outcome = await _streamed(client, 5, drain)
        assert len(ids) == TOKENS
        assert outcome.usage.attempts == 1, "it was finished, not handed on"
        codes.extend([await mesh.stop("gateway"), await mesh.stop("router")])
        assert codes == [0, 0, 0]
