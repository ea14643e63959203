"""A whole worker, in this process, against a router on a real stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import structlog

from headrace.contract.errors import StartError
from headrace.contract.values import FinishReason
from headrace.contract.work import EntryEnd
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.worker.conftest import WorkerFor
from tests.worker.fake_router import FakeRouter, serve_router
from tests.worker.tiny_model import batch, entry, install_tiny_model, prompt

pytestmark = pytest.mark.integration

SLOW = FakeTiming(step_s=0.01)


def start_errors(group: BaseExceptionGroup[BaseException]) -> Sequence[str]:
    found = group.subgroup(StartError)
    assert found is not None
    return [str(error) for error in found.exceptions]


async def test_it_says_what_it_is_and_answers(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """The join tells device, lanes and models with their versions; a batch of the real engine comes back."""
    tiny = install_tiny_model(store)
    fake = install_fake_model(store)
    options = {"worker.lanes": 2, "worker.max_batch": 3, "worker.name": "w1", "worker.labels": "zone=a"}
    async with worker_for(router.address, **options):
        stream = await router.stream()
        join = stream.join
        assert (join.name, join.lanes, join.slots, join.max_batch) == ("w1", 8, 2, 3)
        assert join.labels == {"zone": "a"}
        assert join.device.kind == "cpu"
        assert "float32" in join.device.compute_types
        assert join.device.memory_bytes > 0
        assert {model.name: (model.version, model.compute_type) for model in join.models} == {
            "tiny": (tiny.manifest.version, "float32"),
            "fake": (fake.manifest.version, "none"),
        }
        stream.start(batch(1, entry(1, prompt(6), 9), entry(2, prompt(6, 50), 9), model="tiny"))
        stream.start(batch(2, entry(3, prompt(6), 9), model="fake", lane=1))
        await stream.until(lambda: {1, 2} <= set(stream.ended))
        assert all(heard.end is not None for heard in stream.heard.values())
        assert len(stream.heard[3].token_ids) == 9
    assert stream.draining
    assert stream.closed


async def test_a_broken_stream_ends_its_batches_and_it_joins_again(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """On the new stream its lanes take batches at once, and nothing of the old batches is said on it."""
    install_fake_model(store, timing=SLOW)
    async with worker_for(router.address):
        first = await router.stream()
        first.start(batch(1, entry(1, prompt(6), 3000)))
        await first.until(lambda: 1 in first.heard)
        first.break_off()
        second = await router.stream(1)
        assert second.join.worker_id == first.join.worker_id
        heard = await second.run(batch(7, entry(1, prompt(6), 5)))
        assert set(second.heard) == {1}
        assert set(second.ended) == {7}
        assert heard[1].first_index == 0
        assert len(heard[1].token_ids) == 5


async def test_it_waits_for_its_router_and_says_so_once(store: ModelStore, worker_for: WorkerFor) -> None:
    """A router that goes and comes back at its address finds the worker again; one log line for each change."""
    install_fake_model(store)
    with structlog.testing.capture_logs() as logs:
        async with serve_router() as first:
            port = int(first.address.rpartition(":")[2])
            working = worker_for(first.address)
            await working.__aenter__()
            await (await first.stream()).run(batch(1, entry(1, prompt(6), 3)))
        await asyncio.sleep(0.5)  # time for several tries, none of which may be logged
        async with serve_router(port) as second:
            stream = await second.stream()
            assert (await stream.run(batch(1, entry(1, prompt(6), 3))))[1].end is not None
            await working.__aexit__(None, None, None)
    told = [line["event"] for line in logs if line["event"] in ("worker.joined", "router.away")]
    assert told == ["worker.joined", "router.away", "worker.joined"]


async def test_a_router_that_drains_is_left_when_nothing_runs(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """What runs there ends there; then the worker joins again, without having said that it drains."""
    install_fake_model(store, timing=SLOW)
    async with worker_for(router.address):
        first = await router.stream()
        first.start(batch(1, entry(1, prompt(6), 30)))
        await first.until(lambda: 1 in first.heard)
        first.send(draining=True)
        second = await router.stream(1)
        assert first.heard[1].end is not None
        assert first.heard[1].end.finish_reason is FinishReason.LENGTH
        assert not first.draining
        assert (await second.run(batch(2, entry(2, prompt(6), 3))))[2].end is not None


async def test_batches_pause_and_go_on_as_the_router_says(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """On one slot, the starts of a message before its pauses. What is resumed ends, what is not does not, and both come
    out as they would alone.
    """
    install_fake_model(store, timing=SLOW)
    async with worker_for(router.address, **{"worker.paused_step_s": 600}):
        stream = await router.stream()
        alone = [
            (await stream.run(batch(n, entry(n, prompt(6, first), 60))))[n].token_ids
            for n, first in ((1, 40), (2, 50))
        ]
        three, four = (
            batch(n, entry(n, prompt(6, first), 60), lane=lane) for n, first, lane in ((3, 40, 0), (4, 50, 1))
        )
        stream.send(start=(three, four), pause=(3, 4))
        stream.send(resume=(4,))
        await stream.until(lambda: 4 in stream.ended)
        assert 3 not in stream.ended
        stream.send(resume=(3,))
        await stream.until(lambda: 3 in stream.ended)
        assert [stream.heard[n].token_ids for n in (3, 4)] == alone


@pytest.mark.parametrize(("spare", "lanes"), [(0, 1), (2, 3), (None, 4)])
async def test_spare_lanes_are_beside_those_that_run(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor, spare: int | None, lanes: int
) -> None:
    """As many as were asked for, by default three for each that runs; a batch runs on every one."""
    install_fake_model(store)
    async with worker_for(router.address, **{"worker.spare_lanes": spare}):
        stream = await router.stream()
        assert (stream.join.lanes, stream.join.slots) == (lanes, 1)
        for lane in range(lanes):
            assert (await stream.run(batch(lane, entry(lane, prompt(6), 3), lane=lane)))[lane].end


async def test_a_drain_lets_what_runs_end(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """It says that it drains, ends its batches, and leaves."""
    install_fake_model(store, timing=SLOW)
    async with worker_for(router.address) as shutdown:
        stream = await router.stream()
        stream.start(batch(1, entry(1, prompt(6), 40)))
        await stream.until(lambda: 1 in stream.heard)
        shutdown.request("test")
        await stream.until(lambda: stream.draining)
        assert 1 not in stream.ended
    assert stream.ended == {1: 0}
    assert len(stream.heard[1].token_ids) == 40


async def test_a_drain_is_cut_when_its_grace_is_over(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """What has not ended is given back, so that it goes on elsewhere, with its tokens so far."""
    install_fake_model(store, timing=SLOW)
    async with worker_for(router.address, **{"worker.drain_grace_s": 0.2}) as shutdown:
        stream = await router.stream()
        stream.start(batch(1, entry(1, prompt(6), 3000)))
        await stream.until(lambda: 1 in stream.heard)
        shutdown.request("test")
    assert stream.closed
    assert stream.ended == {}
    assert stream.heard[1].end == EntryEnd(cancelled=True)
    assert stream.heard[1].token_ids


async def test_an_idle_worker_says_that_it_is_there(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """Within the silence that the router takes for a loss it hears something."""
    install_fake_model(store)
    async with worker_for(router.address, **{"router.worker_timeout_s": 0.1}):
        stream = await router.stream()
        await stream.until(lambda: stream.messages >= 3)


async def test_a_worker_that_cannot_reach_its_router_still_ends(
    store: ModelStore, worker_for: WorkerFor
) -> None:
    """The end is taken between two tries."""
    install_fake_model(store)
    async with asyncio.timeout(20), worker_for("127.0.0.1:9"):
        await asyncio.sleep(0.3)


async def test_without_a_model_it_does_not_start(router: FakeRouter, worker_for: WorkerFor) -> None:
    """It says to pull one."""
    with pytest.raises(BaseExceptionGroup) as raised:
        async with worker_for(router.address):
            await router.stream()
    assert "headrace model pull" in start_errors(raised.value)[0]


@pytest.mark.parametrize("harm", ["missing", "changed", "truncated"])
async def test_a_damaged_model_is_named(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor, harm: str
) -> None:
    """The model, the file and what to do; before anything is loaded."""
    weights = install_tiny_model(store).path / "model.bin"
    if harm == "missing":
        weights.unlink()
    elif harm == "changed":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    else:
        weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BaseExceptionGroup) as raised:
        async with worker_for(router.address):
            await router.stream()
    (told,) = start_errors(raised.value)
    assert "'tiny'" in told
    assert "model.bin" in told
    assert "headrace model pull tiny" in told


async def test_an_unknown_model_is_named_with_those_there_are(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """A typing error in --models is no reason to guess."""
    install_fake_model(store)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with worker_for(router.address, **{"worker.models": "smollm3"}):
            await router.stream()
    assert "smollm3" in start_errors(raised.value)[0]
    assert "fake" in start_errors(raised.value)[0]


async def test_a_compute_type_that_the_device_lacks_is_refused(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """The engine would raise, or with "default" fall back in silence."""
    install_tiny_model(store)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with worker_for(router.address, **{"worker.compute_type": "float16"}):
            await router.stream()
    assert "float16" in start_errors(raised.value)[0]
    assert "--compute-type float32" in start_errors(raised.value)[0]
