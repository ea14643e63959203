"""A router shows itself while somebody asks, and not otherwise."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from headrace.contract.state import ModelState, RouterState
from headrace.contract.state_wire import decode_state
from headrace.contract.subjects import STATE_ASK, STATE_WILDCARD
from headrace.contract.values import Priority
from headrace.contract.work import Device, WorkerJoin
from headrace.router.core.view import BatchView, WorkerView
from headrace.router.figures import Figures
from headrace.router.state import MAX_BATCHES, MAX_QUEUES, MAX_WORKERS, Portrait, Seen
from headrace.router.worker_link import WorkerLink
from tests.router.conftest import Mesh, a_request
from tests.router.peers import worker

LIMIT_S = 20.0


async def states(mesh: Mesh, holds: Any) -> RouterState:
    """The first state of which that holds, asked for as the console does."""
    heard = await mesh.nats.subscribe(STATE_WILDCARD)
    try:
        await mesh.nats.publish(STATE_ASK)
        async with asyncio.timeout(LIMIT_S):
            while True:
                state = decode_state((await heard.next_msg(LIMIT_S)).data)
                if holds(state):
                    return state
                await mesh.nats.publish(STATE_ASK)
    finally:
        await heard.unsubscribe()


@pytest.mark.integration
async def test_a_router_shows_its_queues_workers_and_lanes(mesh: Mesh) -> None:
    """What runs with its batch and context, what waits with its age, and afterwards how quick it was."""
    router = await mesh.start_router("r-1")
    silent = await mesh.nats.subscribe(STATE_WILDCARD)
    async with worker(router.address, mesh.model, lanes=1, max_batch=1, worker_id="w-1") as hands:
        await mesh.publish(a_request(priority=Priority.HIGH, tenant="shop"))
        batch = await hands.batch()
        await mesh.publish(a_request(priority=Priority.HIGH, tenant="shop"))
        with pytest.raises(TimeoutError):
            await silent.next_msg(0.5)  # nobody asked
        shown = await states(mesh, lambda state: state.queues and state.workers[0].batches)
        (its,) = shown.workers
        assert (its.name, its.lanes, its.device) == ("w-1", 1, "cpu")
        (lane,) = its.batches
        assert (lane.batch, lane.entries, lane.priority) == (batch.batch, 1, Priority.HIGH)
        assert shown.models[lane.model].name == "fake"
        assert abs(lane.started_ms / 1000 - shown.at_s) < LIMIT_S
        (queue,) = shown.queues
        assert (queue.model, queue.priority, queue.tenant) == ("fake", Priority.HIGH, "shop")
        assert queue.waiting == 1
        assert 0 <= shown.at_s - queue.oldest_ms / 1000 < LIMIT_S
        await hands.make(batch.entries[0], "abc")
        await hands.finish(batch)
        after = await states(mesh, lambda state: state.totals.completed == 1)
        assert after.totals.tokens == 3
        (timing,) = after.timings
        assert timing.priority is Priority.HIGH
        assert (sum(timing.first_token), sum(timing.inter_token)) == (1, 1)
    assert (await states(mesh, lambda state: not state.workers)).router == "r-1"
    await silent.unsubscribe()


class _Clock:
    def to_unix(self, at_s: float) -> float:
        return at_s


def portrait(seen: Seen) -> Portrait:
    return Portrait("r", "h:1", clock=_Clock(), figures=Figures(), look=lambda: seen)  # type: ignore[arg-type]


def crowded(workers: int, queues: int, lanes: int = 1) -> Seen:
    batch = BatchView(
        lane=0,
        number=1,
        model="m",
        priority=Priority.HIGH,
        entries=1,
        context=1,
        generated=1,
        started_s=1.0,
        paused_at_s=None,
    )
    join = WorkerJoin(
        worker_id="w",
        name="n" * 64,
        version="1",
        models=(),
        lanes=1,
        max_batch=1,
        device=Device(kind="cpu"),
    )
    link = WorkerLink(join, {}, frozenset({"m"}), 0.0)
    names = [f"w-{n}" for n in range(workers)]
    return Seen(
        workers=tuple(
            WorkerView(
                name=name,
                lanes=lanes,
                slots=lanes,
                max_batch=1,
                batches=tuple(replace(batch, lane=n) for n in range(lanes)),
            )
            for name in names
        ),
        waiting=(),
        backlogs={f"hr.v1.req.m.high.{n:064}": n + 1 for n in range(queues)},
        links=dict.fromkeys(names, link),
        models=(ModelState(name="m"),),
        held=0,
        draining=False,
    )


def test_a_state_is_bounded_and_counts_what_it_leaves_out() -> None:
    """More workers, queues and batches than fit: the longest queues are in it, and the rest is a number."""
    state = portrait(crowded(MAX_WORKERS + 5, MAX_QUEUES + 7, lanes=9)).state()
    assert (len(state.workers), state.workers_left_out) == (MAX_WORKERS, 5)
    assert (len(state.queues), state.queues_left_out) == (MAX_QUEUES, 7)
    assert state.queues[0].backlog == MAX_QUEUES + 7
    assert sum(len(worker.batches) for worker in state.workers) == MAX_BATCHES
    assert sum(worker.batches_left_out for worker in state.workers) == MAX_WORKERS * 9 - MAX_BATCHES


def test_a_state_fits_into_what_the_broker_takes() -> None:
    """With ever less in it, and even where next to nothing fits."""
    crowd = portrait(crowded(300, 300))
    for most in (20_000, 200):
        body = crowd.encoded(most)
        assert len(body) <= most
        state = decode_state(body)
        assert len(state.workers) + state.workers_left_out == 300
        assert len(state.queues) + state.queues_left_out == 300
