"""The scheduler under any order of events: what must hold after each of them, and at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.contract.costs import ModelCost
from headrace.contract.values import GREEDY, Failure, FinishReason, Priority, Sampling, TokenChunk
from headrace.router.core import events as ev
from headrace.router.core.scheduler import Scheduler
from tests.router.core.dialogue import chunk, costs
from tests.router.core.world import SETTINGS, Hands, Known, Lane, World

QUEUES = {"m.1": "m", "m.2": "m", "n.1": "n", "unknown": "u", "improper": None}
MODELS = st.sampled_from([frozenset("m"), frozenset("n"), frozenset("mn")])
ENDS = ["failed", "completed", "stopped"]
DATA = st.data()


def one_of(data: Any, things: list[Any]) -> Any:
    return data.draw(st.sampled_from(things))


class SchedulerMachine(RuleBasedStateMachine):
    """Everything that can happen to a scheduler."""

    priorities: tuple[Priority, ...] = (Priority.NORMAL, Priority.NORMAL, Priority.BATCH, Priority.HIGH)
    samplings: tuple[Sampling, ...] = (GREEDY, GREEDY, GREEDY, Sampling(temperature=0.5))
    costs_of_workers: tuple[ModelCost | None, ...] = (None, costs(), costs(slower=3.0))
    first_workers: tuple[tuple[str, int, int, int], ...] = (("w0", 1, 3, 0),)
    """Name, slots of three lanes, largest batch, and which of the costs."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.number = 0

    def tell(self, event: ev.Event) -> None:
        self.world.tell(event)

    @initialize()
    def a_mesh(self) -> None:
        self.world.models = frozenset("mn")
        self.tell(ev.ModelsKnown(models=self.world.models))
        self.see("m.1")
        self.see("n.1")
        for name, slots, max_batch, cost in self.first_workers:
            self.has_joined(name, 3, slots, max_batch, frozenset("mn"), self.costs_of_workers[cost])

    # Workers.

    @precondition(lambda self: len(self.world.workers) < 4)
    @rule(
        name=st.sampled_from(["w0", "w1", "w2"]),
        lanes=st.integers(1, 4),
        slots=st.integers(0, 2),
        max_batch=st.integers(1, 4),
        models=MODELS,
        cost=st.integers(0, 2),
        busy=st.sampled_from([0, 0, 1, 2]),
    )
    def join(
        self,
        name: str,
        lanes: int,
        slots: int,
        max_batch: int,
        models: frozenset[str],
        cost: int,
        busy: int,
    ) -> None:
        self.has_joined(name, lanes, slots, max_batch, models, self.costs_of_workers[cost], busy)

    def has_joined(
        self,
        name: str,
        lanes: int,
        slots: int,
        max_batch: int,
        models: frozenset[str],
        cost: ModelCost | None,
        busy: int = 0,
    ) -> None:
        if name not in self.world.workers:
            joined = ev.WorkerJoined(
                worker=name,
                lanes=lanes,
                slots=min(slots, lanes),
                max_batch=max_batch,
                models=models,
                costs=dict.fromkeys(models, cost) if cost else {},
                busy=frozenset(range(min(busy, lanes))),
            )
            self.world.workers[name] = Hands(joined, [None] * lanes, leftover=set(joined.busy))
            self.tell(joined)

    @precondition(lambda self: any(hands.leftover for hands in self.world.workers.values()))
    @rule(data=DATA, again=st.booleans())
    def a_lane_that_was_busy_is_freed(self, data: Any, again: bool) -> None:
        name = one_of(data, sorted(name for name, hands in self.world.workers.items() if hands.leftover))
        lane = self.world.workers[name].leftover.pop()
        self.tell(ev.LaneFreed(worker=name, lane=lane))
        if again:
            self.tell(self.world.log[-1][0])

    @precondition(lambda self: self.world.workers)
    @rule(data=DATA, drains=st.booleans())
    def leave(self, data: Any, drains: bool) -> None:
        name = one_of(data, sorted(self.world.workers))
        if drains:
            self.world.workers[name].draining = True
            self.tell(ev.WorkerDraining(worker=name))
            return
        for lane in self.world.workers.pop(name).lanes:
            for assignment in lane.live if lane else ():
                self.world.lose(assignment)
        self.tell(ev.WorkerLost(worker=name))

    @precondition(lambda self: self.world.workers)
    @rule(
        data=DATA,
        model=st.sampled_from("mn"),
        what=st.sampled_from(["came", "went", "coming"]),
        cost=st.sampled_from([None, costs(slower=2.0)]),
    )
    def a_worker_changes_its_models(self, data: Any, model: str, what: str, cost: ModelCost | None) -> None:
        name = one_of(data, sorted(self.world.workers))
        hands = self.world.workers[name]
        if what == "came":
            hands.joined = replace(hands.joined, models=hands.joined.models | {model})
            self.tell(ev.ModelCame(worker=name, model=model, cost=cost))
        elif what == "went":
            hands.joined = replace(hands.joined, models=hands.joined.models - {model})
            self.tell(ev.ModelWent(worker=name, model=model))
        else:
            self.tell(ev.ModelsComing(worker=name, models={model: self.world.now + 3.0}))

    # Queues and requests.

    def see(self, queue: str) -> None:
        self.world.queues[queue] = QUEUES[queue]
        self.world.coming.setdefault(queue, 0)
        self.tell(ev.QueueSeen(queue=queue, model=QUEUES[queue]))

    @rule(
        queue=st.sampled_from(sorted(QUEUES)),
        models=MODELS,
        what=st.sampled_from(["see", "see", "gone", "models"]),
    )
    def queues_change(self, queue: str, models: frozenset[str], what: str) -> None:
        if what == "see":
            self.see(queue)
        elif what == "gone":
            self.world.queues.pop(queue, None)
            self.world.coming.pop(queue, None)
            self.tell(ev.QueueGone(queue=queue))
        else:
            self.world.models = models
            self.tell(ev.ModelsKnown(models=models))

    def _queue_to_come(self, data: Any) -> str:
        queue: str = one_of(data, sorted(queue for queue, count in self.world.coming.items() if count))
        return queue

    @precondition(lambda self: any(self.world.coming.values()))
    @rule(data=DATA, lapses=st.booleans(), count=st.integers(1, 3))
    def never_comes(self, data: Any, lapses: bool, count: int) -> None:
        queue = self._queue_to_come(data)
        count = min(self.world.coming[queue], count) if lapses else 1
        self.world.coming[queue] -= count
        self.tell(ev.PullLapsed(queue=queue, count=count) if lapses else ev.RequestRefused(queue=queue))

    @precondition(lambda self: any(self.world.coming.values()))
    @rule(data=DATA, count=st.integers(1, 8))
    def requests_arrive(self, data: Any, count: int) -> None:
        for _ in range(count):
            if any(self.world.coming.values()):
                self._arrives(data)

    def _arrives(self, data: Any) -> None:
        queue = self._queue_to_come(data)
        request_id = f"r{data.draw(st.integers(0, self.number + 1), label='id')}"
        if request_id in self.world.held:
            request_id = f"r{self.number + 1}"
        self.number = max(self.number, int(request_id[1:]))
        late_s = data.draw(st.sampled_from([None, None, None, None, 8.0, 3.0, 0.0]), label="late")
        arrived = ev.RequestArrived(
            request_id=request_id,
            queue=queue,
            model=QUEUES[queue] or "m",
            priority=one_of(data, list(self.priorities)),
            tenant=one_of(data, ["t", "t", "other"]),
            sampling=one_of(data, list(self.samplings)),
            prompt_tokens=one_of(data, [5, 5, 5, 5, 6, 1]),
            max_tokens=4,
            generated=one_of(data, [0, 0, 0, 0, 1, 4]),
            attempts=one_of(data, [0, 0, 2]),
            losses=one_of(data, [0, 0, 0, 1, 2]),
            arrived_s=self.world.now - data.draw(st.integers(0, 3)),
            deadline_s=None if late_s is None else self.world.now + late_s,
        )
        self.world.coming[queue] -= 1
        self.world.held[request_id] = Known(
            arrived, arrived.generated, attempts=arrived.attempts, losses=arrived.losses
        )
        self.tell(arrived)

    @rule(number=st.integers(0, 20), tenant=st.sampled_from(["t", "other"]))
    def somebody_cancels(self, number: int, tenant: str) -> None:
        request_id = f"r{number % (self.number + 2)}"
        self.world.cancels.add((tenant, request_id))
        self.tell(ev.CancelAsked(tenant=tenant, request_id=request_id))
        known = self.world.held.get(request_id)
        assert known is None or known.arrived.tenant != tenant or known.state == "settling"

    @rule(number=st.integers(0, 20))
    def another_router_takes_it(self, number: int) -> None:
        request_id = f"r{number % (self.number + 2)}"
        self.world.taken = request_id
        self.tell(ev.RequestTaken(request_id=request_id))
        known = self.world.held.get(request_id)
        assert known is None or known.state == "settling", "it is not held any more, or has its end here"

    @rule(models=MODELS)
    def other_routers_have_lanes(self, models: frozenset[str]) -> None:
        self.world.peers = models
        self.tell(ev.PeersServe(models=models))

    @precondition(lambda self: any(k.state == "settling" for k in self.world.held.values()))
    @rule(data=DATA)
    def one_is_settled(self, data: Any) -> None:
        self._settled(one_of(data, [i for i, k in self.world.held.items() if k.state == "settling"]))

    def _settled(self, request_id: str) -> None:
        del self.world.held[request_id]
        self.tell(ev.Settled(request_id=request_id))

    # What lanes do. A worker hears of a stop late, so it may go on with what nobody wants any more.

    def _live(self) -> list[tuple[Lane, int]]:
        return [(lane, number) for lane in self.world.lanes() for number in lane.live]

    @precondition(lambda self: self._live())
    @rule(data=DATA, count=st.integers(1, 3), stray=st.sampled_from(["none", "early", "again"]))
    def tokens_come(self, data: Any, count: int, stray: str) -> None:
        lane, number = one_of(data, self._live())
        first = lane.live[number]
        count = min(count, 4 - first)
        if stray == "early":
            self._makes_no_sense(number, chunk(first + 1))
        known = self.world.running(number)
        if count:
            lane.live[number] += count
            self.tell(ev.Progressed(assignment=number, tokens=chunk(first, count)))
            assert known is None or known.made == first + count, "what is new is delivered"
        if stray == "again" and count:
            self.tell(self.world.log[-1][0])

    @rule(seconds=st.sampled_from([0.05, 0.5]))
    def lanes_work(self, seconds: float) -> None:
        """Each that runs makes a token or two, in which time those that wait may have come to join it."""
        for lane, number in self._live():
            if not lane.paused and not lane.left and lane.live[number] < 3 and self.world.running(number):
                first = lane.live[number]
                lane.live[number] += 1
                self.tell(ev.Progressed(assignment=number, tokens=chunk(first)))
        self.time_passes(seconds, True)

    @precondition(lambda self: self._live())
    @rule(data=DATA, how=st.sampled_from(ENDS))
    def an_entry_ends(self, data: Any, how: str) -> None:
        lane, number = one_of(data, self._live())
        del lane.live[number]
        self._entry_ends(number, how)

    @rule(number=st.integers(0, 60), first=st.integers(0, 4), how=st.sampled_from(["tokens", *ENDS]))
    def a_stray_word_comes(self, number: int, first: int, how: str) -> None:
        known = self.world.running(number)
        if how == "tokens" and known is not None and known.made < first:
            self._makes_no_sense(number, chunk(first))
        elif how == "tokens" and (known is None or known.made != first):
            self.tell(ev.Progressed(assignment=number, tokens=chunk(first)))
        elif how != "tokens" and known is None:
            self._entry_ends(number, how)

    def _makes_no_sense(self, number: int, tokens: TokenChunk) -> None:
        """Tokens that cannot be the next ones: the attempt is over, whatever the lane goes on to say."""
        self.world.lose(number)
        self.tell(ev.Progressed(assignment=number, tokens=tokens))
        assert self.world.running(number) is None

    def _entry_ends(self, number: int, how: str) -> None:
        known = self.world.running(number)
        if how == "completed":
            self.tell(ev.EntryCompleted(assignment=number, finish_reason=FinishReason.END))
            assert known is None or known.state == "settling"
        elif how == "failed":
            self.world.lose(number)
            self.tell(ev.EntryFailed(assignment=number, failure=Failure(code="ENGINE_FAILED", message="no")))
        else:
            self.tell(ev.EntryStopped(assignment=number))
        assert known is None or known.assignment != number or known.state != "running", "it has left its lane"

    @precondition(lambda self: self.world.lanes())
    @rule(data=DATA, again=st.booleans())
    def a_batch_ends(self, data: Any, again: bool) -> None:
        self._batch_ends(one_of(data, self.world.lanes()))
        if again:
            self.tell(self.world.log[-1][0])

    def _batch_ends(self, lane: Lane) -> None:
        start = lane.start
        for number in lane.live:
            self.world.lose(number)
        self.world.workers[start.worker].lanes[start.lane] = None
        self.tell(ev.BatchEnded(worker=start.worker, lane=start.lane, batch=start.batch))

    # Time, and the end.

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 9.0]), wakes=st.booleans())
    def some_time_passes(self, seconds: float, wakes: bool) -> None:
        self.time_passes(seconds, wakes)

    def time_passes(self, seconds: float, wakes: bool) -> None:
        self.world.now += seconds
        if wakes and self.world.timer is not None and self.world.timer <= self.world.now:
            self.world.timer = None
            self.tell(ev.Woke())

    @precondition(lambda self: len(self.world.log) > 40)
    @rule(ends=st.booleans())
    def the_router_leaves(self, ends: bool) -> None:
        self.world.draining = True
        self.tell(ev.DrainBegan())
        assert all(known.state != "waiting" for known in self.world.held.values())
        if ends:
            self.tell(ev.DrainEnded())
            assert all(known.state == "settling" for known in self.world.held.values())

    @invariant()
    def no_slot_is_free_while_a_request_waits_for_it(self) -> None:
        world = self.world
        if not world.draining:
            world.nobody_waits_in_vain()
        assert len(world.scheduler) == len(world.held)
        assert world.nobody_waits_for_peers()

    def teardown(self) -> None:
        self._until_nothing_is_held()
        scheduler = self.world.scheduler
        assert repr(scheduler).startswith("Scheduler(held=0, waiting=0, running=0, ")
        lives = scheduler._lives
        assert (lives._held, lives._assigned, len(lives._deadlines)) == ({}, {}, 0)
        assert (list(lives.waiting), lives.waiting._lines, scheduler._demand._waiting) == ([], {}, {})
        assert scheduler._demand._coming == sum(self.world.coming.values())
        fresh = Scheduler(SETTINGS)
        for event, now, commands in self.world.log:
            assert fresh.handle(event, now) == commands, "the same events give the same commands"

    def _until_nothing_is_held(self) -> None:
        last = ev.WorkerJoined(worker="last", lanes=2, max_batch=4, models=frozenset("mnu"))
        self.world.workers["last"] = Hands(last, [None] * 2)
        self.tell(last)
        for _ in range(100):
            for lane, number in self._live():
                del lane.live[number]
                self._entry_ends(number, "completed")
            for lane in [lane for lane in self.world.lanes() if not lane.paused]:
                self._batch_ends(lane)
            for request_id in [i for i, k in self.world.held.items() if k.state == "settling"]:
                self._settled(request_id)
        assert self.world.held == {}, "every request is answered in the end"


class MergingMachine(SchedulerMachine):
    """The same among equals, and with steps that cost hardly more for another entry: batches grow while they run."""

    priorities = (Priority.NORMAL,)
    samplings = (GREEDY,)
    costs_of_workers = (costs(step_s=0.1), costs(step_s=0.2, per_entry_s=0.001), costs(step_s=0.1))


class UnequalMachine(SchedulerMachine):
    """The same among workers of which one is somewhat slower than another, and nobody is more urgent: a slot that stays
    free waits for one that is not.
    """

    priorities = (Priority.NORMAL,)
    samplings = (GREEDY,)
    costs_of_workers = (
        costs(step_s=0.008),
        costs(step_s=0.008, slower=1.15),
        costs(step_s=0.008, slower=1.4),
    )
    first_workers = (("w0", 2, 1, 0), ("w1", 2, 1, 1))


SchedulerMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=50, derandomize=True, deadline=None
)
MergingMachine.TestCase.settings = settings(SchedulerMachine.TestCase.settings, max_examples=60)
UnequalMachine.TestCase.settings = settings(SchedulerMachine.TestCase.settings, max_examples=60)
TestScheduler = SchedulerMachine.TestCase
TestMerging = MergingMachine.TestCase
TestUnequal = UnequalMachine.TestCase
