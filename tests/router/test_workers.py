"""The workers' streams without a network: what workers are told beside their work, and what operators see of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.costs import CostGrid, ModelCost
from headrace.contract.errors import MalformedMessage, Unavailable
from headrace.contract.values import GREEDY
from headrace.contract.work import (
    BatchEnded,
    BatchEntry,
    ComingModel,
    Device,
    EntryEnd,
    EntryProgress,
    Peer,
    RouterMessage,
    ServedModel,
    StartBatch,
    WorkerJoin,
    WorkerMessage,
)
from headrace.router.core import events as ev
from headrace.router.workers import Workers

ONE, TWO = (Peer(router_id=f"r-{n}", address=f"host-{n}:7701") for n in (1, 2))
JOIN = WorkerJoin(
    worker_id="id-1",
    name="w-1",
    version="test",
    device=Device(kind="cpu"),
    lanes=2,
    max_batch=4,
    models=(ServedModel(name="m", version="1", compute_type="int8"),),
    started_s=1000.0,
    drain_grace_s=7.0,
)


def entry(assignment: int) -> BatchEntry:
    return BatchEntry(
        assignment=assignment, request_id=f"r{assignment}", attempt=1, prompt=(1, 2), max_tokens=9
    )


BATCH = StartBatch(batch=5, lane=1, model="m", sampling=GREEDY, entries=(entry(11), entry(12)))


@dataclass
class Worker:
    """One end of a stream that the test holds both ends of."""

    out: AsyncIterator[RouterMessage]
    says: asyncio.Queue[WorkerMessage] = field(default_factory=asyncio.Queue)

    async def hears(self) -> RouterMessage:
        async with asyncio.timeout(5):
            return await anext(self.out)


@pytest.fixture
def workers() -> Workers:
    return Workers(
        "r-1",
        timeout_s=60,
        serves=lambda name, version: (name, version) == ("m", "1"),
        tell=lambda event: None,
    )


@asynccontextmanager
async def joined(workers: Workers, join: WorkerJoin = JOIN) -> AsyncIterator[Worker]:
    says: asyncio.Queue[WorkerMessage] = asyncio.Queue()

    async def messages() -> AsyncIterator[WorkerMessage]:
        yield WorkerMessage(join=join)
        while True:
            yield await says.get()

    out: Any = workers.serve(messages())
    try:
        yield Worker(out, says)
    finally:
        await out.aclose()


async def heard_by_router(workers: Workers, member: Member) -> None:
    """Until operators see the worker so."""
    async with asyncio.timeout(5):
        while workers.members() != (member,):  # noqa: ASYNC110 — it tells nobody, as nobody else asks
            await asyncio.sleep(0)


async def test_peers_are_told_at_the_join_and_when_they_change(workers: Workers) -> None:
    """The latest list, whole, and no list twice."""
    workers.tell_peers((ONE,))
    async with joined(workers) as worker:
        welcome = await worker.hears()
        assert (welcome.welcome, welcome.peers) == ("r-1", (ONE,))
        workers.tell_peers((ONE,))
        workers.tell_peers((ONE, TWO))
        workers.tell_peers((TWO,))
        assert (await worker.hears()).peers == (TWO,)
        workers.start("id-1", BATCH)
        assert (await worker.hears()).peers is None


async def test_a_router_that_knows_no_peers_says_nothing_of_them(workers: Workers) -> None:
    """A worker then keeps those that it was told before."""
    async with joined(workers) as worker:
        assert (await worker.hears()).peers is None


async def test_a_router_that_goes_sends_workers_on(workers: Workers) -> None:
    """Those that are there, and those that come: a worker must not be taken in to be lost."""
    async with joined(workers) as worker:
        await worker.hears()
        workers.leave()
        assert (await worker.hears()).draining
        async with joined(workers) as late:
            with pytest.raises(Unavailable, match="drains"):
                await late.hears()


async def test_operators_see_what_a_worker_runs(workers: Workers) -> None:
    """Its lanes and entries go up when a batch is sent, and down as they end."""
    idle = Member(
        kind=MemberKind.WORKER,
        id="w-1",
        started_s=1000.0,
        router="r-1",
        lanes=2,
        slots=2,
        models=("m",),
        device="cpu",
        hardware=JOIN.device,
    )
    async with joined(workers) as worker:
        await worker.hears()
        assert workers.members() == (idle,)
        workers.start("id-1", BATCH)
        await heard_by_router(workers, replace(idle, busy_lanes=1, requests=2))
        await worker.hears()
        ended = EntryProgress(assignment=11, end=EntryEnd(cancelled=True))
        await worker.says.put(WorkerMessage(progress=(ended, EntryProgress(assignment=12))))
        await heard_by_router(workers, replace(idle, busy_lanes=1, requests=1))
        ended = EntryProgress(assignment=12, end=EntryEnd(cancelled=True))
        await worker.says.put(WorkerMessage(progress=(ended,), ended=(BatchEnded(batch=5, lane=1),)))
        await heard_by_router(workers, idle)
        await worker.says.put(WorkerMessage(draining=True))
        await heard_by_router(workers, replace(idle, draining=True))
    assert workers.members() == ()


async def test_pauses_and_resumes_are_told_after_the_starts_and_the_last_word_counts(
    workers: Workers,
) -> None:
    """One message has whatever waits: a batch is paused or goes on, never both."""
    async with joined(workers) as worker:
        await worker.hears()
        workers.start("id-1", BATCH)
        workers.pause("id-1", 5)
        heard = await worker.hears()
        assert (heard.start, heard.pause, heard.resume) == ((BATCH,), (5,), ())
        workers.resume("id-1", 5)
        workers.pause("id-1", 5)
        workers.resume("id-1", 5)
        heard = await worker.hears()
        assert (heard.start, heard.pause, heard.resume) == ((), (), (5,))


async def test_a_batch_that_is_not_there_is_not_paused(workers: Workers) -> None:
    """It has ended, or its worker is gone: nothing is told, and nothing is kept."""
    workers.pause("id-1", 5)
    workers.resume("id-1", 5)
    async with joined(workers) as worker:
        await worker.hears()
        workers.pause("id-1", 5)
        workers.resume("id-1", 5)
        assert workers.members()[0].paused_lanes == 0
        workers.start("id-1", BATCH)
        heard = await worker.hears()
        assert (heard.pause, heard.resume) == ((), ())


async def test_operators_see_what_is_paused(workers: Workers) -> None:
    """From the word to it until the next, or until its end."""
    async with joined(workers, replace(JOIN, slots=1)) as worker:
        await worker.hears()
        workers.start("id-1", BATCH)
        await worker.hears()
        (runs,) = workers.members()
        assert (runs.lanes, runs.slots, runs.busy_lanes, runs.paused_lanes) == (2, 1, 1, 0)
        workers.pause("id-1", 5)
        await heard_by_router(workers, replace(runs, paused_lanes=1))
        workers.resume("id-1", 5)
        await heard_by_router(workers, runs)
        workers.pause("id-1", 5)
        await worker.says.put(WorkerMessage(ended=(BatchEnded(batch=5, lane=1),)))
        await heard_by_router(workers, replace(runs, busy_lanes=0, requests=0))


async def test_a_cost_that_nobody_measured_is_refused(workers: Workers) -> None:
    """And said to be which model's and what is wrong with it."""
    grid = CostGrid(batches=(1, 4), contexts=(16,), seconds=(0.01, 0.02))
    cost = ModelCost(step=grid, prefill=replace(grid, seconds=(0.01,)))
    (model,) = JOIN.models
    join = replace(JOIN, models=(replace(model, cost=cost),))
    async with joined(workers, join) as worker:
        with pytest.raises(MalformedMessage, match=r"models\[m\]\.cost: prefill: there is one value"):
            await worker.hears()
    assert workers.members() == ()


async def test_more_slots_than_lanes_are_refused(workers: Workers) -> None:
    """As many as lanes are not."""
    async with joined(workers, replace(JOIN, slots=3)) as worker:
        with pytest.raises(MalformedMessage, match="no more slots than lanes"):
            await worker.hears()
    async with joined(workers, replace(JOIN, slots=2)) as worker:
        assert (await worker.hears()).welcome


async def test_a_busy_lane_is_none_that_the_worker_has_not(workers: Workers) -> None:
    """A join that names one is none of a worker of ours."""
    with pytest.raises(MalformedMessage, match="busy lane"):
        async with joined(workers, replace(JOIN, busy_lanes=(2,))) as worker:
            await worker.hears()


async def test_a_worker_is_told_to_leave_by_its_name(workers: Workers) -> None:
    """And the operator how long that takes at most, by the worker's own settings."""
    async with joined(workers) as worker:
        await worker.hears()
        (before,) = workers.members()
        assert workers.drain("another") is None
        assert workers.drain("w-1") == DrainBegun(member=before, grace_s=7.0)
        assert (await worker.hears()).leave
        assert workers.members() == (replace(before, draining=True),)


GRID = CostGrid(batches=(1,), contexts=(16,), seconds=(0.01,))
NEW = ServedModel(name="n@0123456789ab", version="0123456789ab", compute_type="int8")


class Told:
    """Keeps what the core is told."""

    def __init__(self, *served: tuple[str, str]) -> None:
        self.served = set(served)
        self.events: list[ev.Event] = []
        self.offers = 0
        self.workers = Workers(
            "r-1",
            timeout_s=60,
            serves=lambda name, version: (name, version) in self.served,
            tell=self.events.append,
            on_offer=self.offered,
        )

    def offered(self) -> None:
        self.offers += 1

    async def until(self, kind: type[ev.Event], count: int = 1) -> list[Any]:
        async with asyncio.timeout(5):
            while len(found := [event for event in self.events if isinstance(event, kind)]) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return found


async def test_a_lane_that_still_computes_is_told_to_the_core_until_it_is_free() -> None:
    """Operators see it as busy; a word on a lane that was not, or is free already, is nobody's."""
    told = Told(("m", "1"))
    async with joined(told.workers, replace(JOIN, busy_lanes=(1,))) as worker:
        await worker.hears()
        assert [event.busy for event in await told.until(ev.WorkerJoined)] == [{1}]
        assert told.workers.members()[0].busy_lanes == 1
        worker.says.put_nowait(WorkerMessage(freed=(0, 1, 1, 7)))
        worker.says.put_nowait(WorkerMessage(draining=True))
        hearing = asyncio.create_task(worker.hears())
        await told.until(ev.WorkerDraining)
        assert await told.until(ev.LaneFreed) == [ev.LaneFreed(worker="id-1", lane=1)]
        assert told.workers.members()[0].busy_lanes == 0
        hearing.cancel()
        await asyncio.wait({hearing})


async def test_models_come_and_go_on_the_stream() -> None:
    """What came is the core's, what went is not, and the worker is answered that no batch of it comes any more."""
    told = Told(("m", "1"), (NEW.name, NEW.version))
    async with joined(told.workers) as worker:
        await worker.hears()
        worker.says.put_nowait(WorkerMessage(came=(NEW,)))
        answering = asyncio.create_task(worker.hears())
        (came,) = await told.until(ev.ModelCame)
        assert (came.worker, came.model) == ("id-1", NEW.name)
        assert told.workers.members()[0].models == ("m", NEW.name)
        worker.says.put_nowait(WorkerMessage(went=(NEW.name, "never-there")))
        (went,) = await told.until(ev.ModelWent)
        assert went.model == NEW.name
        assert (await answering).released == (NEW.name, "never-there")


async def test_a_model_that_the_router_learns_of_later_is_taken_in_then() -> None:
    """It is looked for when a worker offers it; and left out again when the router holds it no more."""
    told = Told(("m", "1"))
    async with joined(told.workers, replace(JOIN, models=(*JOIN.models, NEW))) as worker:
        await worker.hears()
        assert told.offers == 1
        assert told.workers.offered() == {("m", "1"), (NEW.name, NEW.version)}
        told.served.add((NEW.name, NEW.version))
        told.workers.models_changed()
        told.workers.models_changed()
        told.served.discard(("m", "1"))
        told.workers.models_changed()
        assert [event.model for event in await told.until(ev.ModelCame)] == [NEW.name]
        assert [event.model for event in await told.until(ev.ModelWent)] == ["m"]


async def test_what_is_coming_has_a_time_on_the_clock_of_the_core() -> None:
    """Seconds from now become a moment; no time stays none."""
    told = Told(("m", "1"))
    now = asyncio.get_running_loop().time()
    async with joined(told.workers) as worker:
        await worker.hears()
        coming = (ComingModel(name="a", version="1", ready_in_s=7.0), ComingModel(name="b", version="1"))
        worker.says.put_nowait(WorkerMessage(coming=coming))
        hearing = asyncio.create_task(worker.hears())
        (event,) = await told.until(ev.ModelsComing)
        hearing.cancel()
        await asyncio.wait({hearing})
        assert event.models["b"] is None
        assert now + 7 <= event.models["a"] < now + 12


@pytest.mark.parametrize(
    "said",
    [
        WorkerMessage(came=(replace(NEW, name="n@xyz"),)),
        WorkerMessage(came=(replace(NEW, version=""),)),
        WorkerMessage(came=(replace(NEW, cost=ModelCost(step=GRID, prefill=GRID, load_s=float("nan"))),)),
        WorkerMessage(coming=(ComingModel(name="a.b", version="1"),)),
    ],
)
async def test_models_that_make_no_sense_end_the_stream(said: WorkerMessage) -> None:
    """With what is wrong, as a join that makes none does."""
    told = Told(("m", "1"))
    async with joined(told.workers) as worker:
        await worker.hears()
        worker.says.put_nowait(said)
        with pytest.raises(MalformedMessage):
            await worker.hears()
