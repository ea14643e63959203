"""What is heard becomes rows; what is heard no more goes, after it was seen to go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headrace.console.picture import (
    FORGET_GATEWAY_S,
    FORGET_ROUTER_S,
    LOST_SHOWN_S,
    MAX_GATEWAYS,
    MAX_ROUTERS,
    SILENT_AFTER_S,
    Picture,
)
from headrace.contract.admin import Member, MemberKind
from headrace.contract.state import BatchState, ModelState, QueueState, RouterState, WorkerState
from headrace.contract.values import Priority

BATCH = BatchState(
    lane=1, batch=7, model=0, priority=Priority.HIGH, entries=3, context=99, generated=5, started_ms=1000
)
WORKER = WorkerState(id="w-1", name="box-1", lanes=4, slots=2, models=(0,), batches=(BATCH,))
ROUTER = RouterState(
    router="r-1",
    started_s=5.0,
    models=(ModelState(name="m", version="v1", task="generate", context_length=512),),
    workers=(WORKER,),
)


class Watched:
    """A picture, and what time it is."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.picture = Picture(lambda: self.now)
        self.picture.broker_is(connected=True)

    def rows(self, table: str) -> dict[str, Any]:
        return self.picture.tables()[table]


def test_a_lane_is_told_with_its_batch_context_class_and_pause() -> None:
    """lane, number, model, class, entries, context, generated, started, paused."""
    watched = Watched()
    paused = replace(BATCH, lane=2, paused_ms=1500)
    watched.picture.router_is(replace(ROUTER, workers=(replace(WORKER, batches=(BATCH, paused)),)))
    row = watched.rows("workers")["w-1"]
    assert row["batches"] == [[1, 7, "m", 1, 3, 99, 5, 1000, 0], [2, 7, "m", 1, 3, 99, 5, 1000, 1500]]
    router = watched.rows("routers")["r-1"]
    assert (router["running"], router["paused"], router["slots"]) == (1, 1, 2)


def test_a_lost_worker_is_shown_as_lost_for_a_while() -> None:
    """Without its batches; and no more once one of its name is back."""
    watched = Watched()
    watched.picture.router_is(ROUTER)
    watched.picture.router_is(replace(ROUTER, workers=()))
    row = watched.rows("workers")["w-1"]
    assert (row["lost"], row["batches"]) == (1_000_000, [])
    watched.picture.router_is(replace(ROUTER, workers=(replace(WORKER, id="w-2"),)))
    assert {key: row["lost"] for key, row in watched.rows("workers").items()} == {"w-2": 0}
    watched.picture.router_is(replace(ROUTER, workers=()))
    watched.now += LOST_SHOWN_S + 1
    watched.picture.router_is(replace(ROUTER, workers=()))
    assert watched.rows("workers") == {}


def test_a_worker_that_drained_goes_at_once() -> None:
    """Its end was asked for."""
    watched = Watched()
    watched.picture.router_is(replace(ROUTER, workers=(replace(WORKER, draining=True),)))
    watched.picture.router_is(replace(ROUTER, workers=()))
    assert watched.rows("workers") == {}


def test_a_worker_that_changed_its_router_is_there_once() -> None:
    """The latest word counts, though the first router has not said that it is gone."""
    watched = Watched()
    watched.picture.router_is(ROUTER)
    watched.now += 0.1
    watched.picture.router_is(replace(ROUTER, router="r-2"))
    assert {key: row["router"] for key, row in watched.rows("workers").items()} == {"w-1": "r-2"}


def test_a_silent_router_says_since_when_and_is_forgotten() -> None:
    """Not while the broker is away: then nobody can be heard."""
    watched = Watched()
    watched.picture.router_is(ROUTER)
    watched.now += SILENT_AFTER_S + 0.1
    assert watched.rows("routers")["r-1"]["silent"] == 1_000_000
    assert list(watched.picture.states()) == []
    watched.picture.broker_is(connected=False)
    watched.now += FORGET_ROUTER_S
    assert "r-1" in watched.rows("routers")
    watched.picture.broker_is(connected=True)
    assert watched.rows("routers") == {}


def test_queues_of_several_routers_are_one() -> None:
    """What waits is added, the broker's backlog is not, the oldest counts."""
    watched = Watched()
    queue = QueueState(model="m", priority=Priority.BATCH, tenant="t", waiting=2, backlog=9, oldest_ms=50)
    watched.picture.router_is(replace(ROUTER, queues=(queue,)))
    other = replace(queue, waiting=3, backlog=8, oldest_ms=40)
    watched.picture.router_is(replace(ROUTER, router="r-2", queues=(other,)))
    row = watched.rows("queues")["m.batch.t"]
    assert (row["held"], row["backlog"], row["oldest"]) == (5, 9, 40)


def test_models_tell_their_versions_and_who_serves_them() -> None:
    """Two routers with different versions of one model show both."""
    watched = Watched()
    watched.picture.router_is(ROUTER)
    newer = replace(ROUTER, router="r-2", models=(replace(ROUTER.models[0], version="v2"),), workers=())
    watched.picture.router_is(newer)
    assert watched.rows("models")["m"] == {
        "versions": ["v1", "v2"],
        "task": "generate",
        "context": 512,
        "workers": 1,
        "slots": 2,
    }


def test_what_anybody_could_flood_is_bounded() -> None:
    """States and answers come over NATS, where producers are, too."""
    watched = Watched()
    for n in range(MAX_ROUTERS + 10):
        watched.picture.router_is(replace(ROUTER, router=f"r-{n}"))
    for n in range(MAX_GATEWAYS + 10):
        watched.picture.gateway_is(Member(kind=MemberKind.GATEWAY, id=f"g-{n}", address="h:1"))
    assert len(watched.rows("routers")) == MAX_ROUTERS
    assert len(watched.rows("gateways")) == MAX_GATEWAYS
    watched.now += FORGET_GATEWAY_S + 1
    assert watched.rows("gateways") == {}


def test_a_reference_to_a_model_that_is_none_does_no_harm() -> None:
    """A state that contradicts itself is shown as far as it makes sense."""
    watched = Watched()
    watched.picture.router_is(replace(ROUTER, models=()))
    assert watched.rows("workers")["w-1"]["models"] == ["?"]


def test_a_queue_that_nobody_holds_is_at_least_as_old_as_it_was_seen() -> None:
    """No worker serves its model, so all of it waits in the broker; once a router holds some, that one's age counts."""
    watched = Watched()
    queue = QueueState(model="m", priority=Priority.BATCH, tenant="t", backlog=9)
    for _ in range(2):
        watched.picture.router_is(replace(ROUTER, queues=(queue,)))
        assert watched.rows("queues")["m.batch.t"]["since"] == 1_000_000
        watched.now += 1
    watched.picture.router_is(replace(ROUTER, queues=(replace(queue, waiting=1, oldest_ms=50),)))
    row = watched.rows("queues")["m.batch.t"]
    assert (row["oldest"], row["since"]) == (50, 0)
