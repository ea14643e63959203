"""Models that come and go while batches run, without a router."""

from __future__ import annotations

import asyncio
import dataclasses

from headrace.worker.outbox import Outbox
from headrace.worker.roster import Roster
from headrace.worker.serving import ServingModel
from tests.worker.crew_bench import Bench, BenchFor
from tests.worker.gated_engine import GatedEngine
from tests.worker.tiny_model import batch, entry, prompt


def roster_of(bench: Bench) -> tuple[Roster, dict[str, ServingModel], Outbox]:
    models = bench.crew._models
    assert isinstance(models, dict)
    outbox = Outbox()
    return Roster(models, bench.crew, outbox), models, outbox


async def soon() -> None:
    """Lets every task go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_model_goes_when_the_router_has_answered_and_its_batch_has_ended(bench_for: BenchFor) -> None:
    """Until the answer it takes batches, as one may be on its way; then it ends what runs."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        roster, models, outbox = roster_of(bench)
        assert [model.name for model in roster.join()] == ["fake"]
        bench.crew.start(batch(1, entry(1, prompt(6), 3)))
        going = asyncio.create_task(roster.go("fake"))
        await soon()
        message = await outbox.take(5)
        assert message is not None
        assert message.went == ("fake",)
        bench.crew.start(batch(2, entry(2, prompt(6), 3), lane=1))
        assert "fake" in models
        roster.released(("fake", "another"))
        await soon()
        assert models == {}
        assert not going.done()
        engine.let(6)
        await bench.ended(1)
        await bench.ended(2)
        await going
        assert [len(bench.heard(n)[0]) for n in (1, 2)] == [3, 3]


async def test_without_a_router_nobody_is_waited_for(bench_for: BenchFor) -> None:
    """Neither before the first, nor when the one that was told is gone."""
    async with bench_for(GatedEngine()) as bench:
        roster, models, _ = roster_of(bench)
        (model,) = models.values()
        await roster.go("fake")
        await roster.come(model)
        roster.join()
        going = asyncio.create_task(roster.go("fake"))
        await soon()
        assert not going.done()
        roster.part()
        await going
        assert list(roster.join()) == []


async def test_a_new_version_takes_the_batches_and_the_old_one_ends_its_own(bench_for: BenchFor) -> None:
    """Under one name: what runs stays on the old one, which is waited for; what starts runs on the new one."""
    old, new = GatedEngine(), GatedEngine()
    async with bench_for(old) as bench:
        roster, models, outbox = roster_of(bench)
        roster.join()
        bench.crew.start(batch(1, entry(1, prompt(6), 3)))
        served = dataclasses.replace(models["fake"].served, version="2")
        coming = asyncio.create_task(
            roster.come(dataclasses.replace(models["fake"], served=served, engine=new))
        )
        await soon()
        message = await outbox.take(5)
        assert message is not None
        assert [model.version for model in message.came] == ["2"]
        bench.crew.start(batch(2, entry(2, prompt(6), 3), lane=1))
        new.let(3)
        await bench.ended(2)
        assert not coming.done()
        old.let(3)
        await bench.ended(1)
        await coming
        assert (old.steps_begun, new.steps_begun) == (3, 3)
