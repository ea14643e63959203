"""A small model of all that is around a scheduler: it does what is commanded, and checks that it may be."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.contract.values import OutcomeKind
from headrace.router.core import commands as cmd
from headrace.router.core import events as ev
from headrace.router.core.grouping import LOSSES_BEFORE_APART
from headrace.router.core.scheduler import Scheduler
from headrace.router.core.settings import SchedulerSettings

SETTINGS = SchedulerSettings(
    max_held=20,
    lookahead=2,
    max_attempts=4,
    remembered_cancels=3,
    ageing_s=20.0,
    fairness_slack=1.0,
    max_skew=3,
    merge_gain=1.01,
)


@dataclass
class Lane:
    """A batch on a lane, as its worker sees it."""

    start: cmd.Start
    live: dict[int, int] = field(default_factory=dict)
    """Assignments that have not ended, with the index of the next token."""
    apart: bool = False
    paused: bool = False
    left: bool = False
    """Its requests go on in another batch."""
    level: int = 0


@dataclass
class Hands:
    """A worker."""

    joined: ev.WorkerJoined
    lanes: list[Lane | None]
    draining: bool = False
    leftover: set[int] = field(default_factory=set)
    """Lanes that still compute what another router gave them."""

    @property
    def has_free_lane(self) -> bool:
        return any(lane is None and number not in self.leftover for number, lane in enumerate(self.lanes))

    @property
    def has_apart(self) -> bool:
        return any(lane is not None and lane.apart for lane in self.lanes)

    @property
    def slots(self) -> int:
        return self.joined.slots or self.joined.lanes

    @property
    def running(self) -> int:
        batches = sum(lane is not None and not lane.paused and not lane.left for lane in self.lanes)
        return batches + len(self.leftover)

    @property
    def has_room(self) -> bool:
        """Whether it could begin a batch."""
        return self.has_free_lane and self.running < self.slots

    def serves(self, model: str) -> bool:
        return model in self.joined.models and not self.draining


@dataclass
class Known:
    """A request that was given to the scheduler, from its arrival until it is settled."""

    arrived: ev.RequestArrived
    made: int
    state: str = "waiting"
    """`waiting`, `running` or `settling`."""
    assignment: int = 0
    attempts: int = 0
    losses: int = 0


class World:
    """Tells the scheduler events, and holds its commands against what is so."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(SETTINGS)
        self.now = 0.0
        self.log: list[tuple[ev.Event, float, list[cmd.Command]]] = []
        self.workers: dict[str, Hands] = {}
        self.held: dict[str, Known] = {}
        self.queues: dict[str, str | None] = {}
        self.coming: dict[str, int] = {}
        self.models: frozenset[str] = frozenset()
        self.cancels: set[tuple[str, str]] = set()
        self.owners: dict[int, str] = {}
        """Every assignment that ever was, and its request."""
        self.batches: set[int] = set()
        self.timer: float | None = None
        self.told_s = 0.0
        """When the scheduler last looked at who waits."""
        self.taken = ""
        """The request that another router has just taken."""
        self.draining = False
        self.pausing: Lane | None = None
        """The batch that was paused for the one that starts next."""
        self.peers: frozenset[str] = frozenset()
        """Models that other routers have lanes for."""

    def tell(self, event: ev.Event) -> None:
        if not isinstance(event, ev.Progressed):
            self.told_s = self.now
        commands = self.scheduler.handle(event, self.now)
        self.log.append((event, self.now, commands))
        for command in commands:
            self._do(command)
        if not isinstance(event, ev.Progressed):
            self._nothing_is_late()
            self._all_that_may_be_asked_for_is()

    def running(self, assignment: int) -> Known | None:
        """The request that an assignment runs, if the scheduler still wants it."""
        known = self.held.get(self.owners.get(assignment, ""))
        return known if known and known.state == "running" and known.assignment == assignment else None

    def lose(self, assignment: int) -> None:
        """The assignment is about to be lost or to fail."""
        if (known := self.running(assignment)) is not None:
            known.losses += 1

    def lanes(self) -> list[Lane]:
        return [lane for hands in self.workers.values() for lane in hands.lanes if lane is not None]

    # What is commanded.

    def _do(self, command: cmd.Command) -> None:
        match command:
            case cmd.Start():
                self._start(command)
            case cmd.Pause(worker=worker, batch=batch):
                lane = self._lane(worker, batch)
                assert not lane.paused
                lane.paused = True
                self.pausing = lane
            case cmd.Resume(worker=worker, batch=batch):
                lane = self._lane(worker, batch)
                assert lane.paused
                lane.paused = False
                assert self.workers[worker].running <= self.workers[worker].slots, "a slot runs one batch"
            case cmd.Deliver(request_id=request_id, tokens=tokens):
                known = self.held[request_id]
                assert known.state == "running"
                assert tokens.first_index == known.made, "no gap and no repeat"
                known.made = tokens.next_index
            case cmd.Settle():
                self._settle(command)
            case cmd.Release(request_id=request_id, losses=losses):
                known = self.held[request_id]
                assert self.draining or self._is_for_peers(known) or self._is_for_nobody(known)
                assert losses == self.held[request_id].losses
                self._end(request_id)
            case cmd.LetGo(request_id=request_id):
                assert self.taken == request_id
                assert self.held.pop(request_id).state != "settling"
            case cmd.Requeued(request_id=request_id):
                assert not self.draining
                assert self.held[request_id].state == "running"
                self.held[request_id].state = "waiting"
            case cmd.Stop(worker=worker, assignment=assignment):
                assert self.running(assignment) is not None
                assert any(lane and assignment in lane.live for lane in self.workers[worker].lanes)
            case cmd.Regrouped(request_id=request_id):
                known = self.held[request_id]
                assert known.state == "running"
                lane = self._lane_of(known.assignment)
                assert not lane.paused, "what is paused stays as it is"
                assert any(
                    lane.start.assignments[i].number in lane.live for i in range(len(lane.start.assignments))
                )
                lane.left = True
                known.state = "waiting"
            case cmd.Pull(queue=queue, count=count):
                self._pull(queue, count)
            case cmd.WakeAt(at_s=at_s):
                assert self.timer is None or at_s < self.timer
                assert at_s > self.now, "nothing spins"
                self.timer = at_s

    def _lane_of(self, assignment: int) -> Lane:
        (lane,) = (lane for lane in self.lanes() if assignment in lane.live)
        return lane

    def _lane(self, worker: str, batch: int) -> Lane:
        (lane,) = (lane for lane in self.workers[worker].lanes if lane and lane.start.batch == batch)
        return lane

    def level(self, known: Known) -> int:
        """Its effective class when the scheduler last looked."""
        arrived = known.arrived
        return max(0, arrived.priority - int((self.told_s - arrived.arrived_s) // SETTINGS.ageing_s))

    def _is_for_peers(self, known: Known) -> bool:
        """Whether it waits for what only other routers have."""
        model = known.arrived.model
        served = any(hands.serves(model) for hands in self.workers.values())
        return known.state == "waiting" and model in self.peers and not served

    def _is_for_nobody(self, known: Known) -> bool:
        """Whether it waits for what nobody here has or wants any more."""
        model = known.arrived.model
        served = any(hands.serves(model) for hands in self.workers.values())
        return known.state == "waiting" and model not in self.models and not served

    def nobody_waits_for_peers(self) -> bool:
        return not any(self._is_for_peers(known) for known in self.held.values())

    def _start(self, start: cmd.Start) -> None:
        assert not self.draining
        hands = self.workers[start.worker]
        assert hands.serves(start.model)
        assert hands.lanes[start.lane] is None, "a lane is never booked twice"
        assert start.lane not in hands.leftover, "a lane that still computes is not free"
        assert hands.running < hands.slots, "a slot runs one batch"
        assert 1 <= len(start.assignments) <= hands.joined.max_batch
        assert start.batch not in self.batches
        self.batches.add(start.batch)
        group = [self.held[assignment.request_id] for assignment in start.assignments]
        level = min(self.level(known) for known in group)
        self._goes_first(level)
        if self.pausing is not None:
            assert self.pausing.level > level, "only for a more urgent class"
            self.pausing = None
        assert not (_apart(group[0]) and hands.has_apart), "those that may kill it are not together"
        self._may_decode_together(start, group)
        lane = hands.lanes[start.lane] = Lane(start, apart=_apart(group[0]), level=level)
        for assignment, known in zip(start.assignments, group, strict=True):
            assert known.state == "waiting"
            assert known.made < known.arrived.max_tokens, "there is something left to make"
            known.attempts += 1
            assert assignment.attempt == known.attempts
            assert assignment.number not in self.owners, "numbers are never used twice"
            self.owners[assignment.number] = assignment.request_id
            known.state, known.assignment = "running", assignment.number
            lane.live[assignment.number] = known.made

    def _goes_first(self, level: int) -> None:
        """Nobody more urgent waits for a slot that is free."""
        free = [hands for hands in self.workers.values() if hands.has_room]
        for known in self.held.values():
            if known.state == "waiting" and self.level(known) < level:
                assert not any(
                    hands.serves(known.arrived.model)
                    for hands in free
                    if not (_apart(known) and hands.has_apart) and not self._is_slow(hands, known)
                )

    def _is_slow(self, hands: Hands, known: Known) -> bool:
        """Whether a worker may stay free though a request waits: for a faster one that has no room for it."""
        fleet, model = self.scheduler._fleet, known.arrived.model
        worker = fleet.workers[hands.joined.worker]
        if model not in worker.pace:
            return False
        faster = [self.workers[other.name] for other in fleet.faster(worker, model, SETTINGS.slower)]
        return any(not other.has_room or (_apart(known) and other.has_apart) for other in faster)

    def nobody_waits_in_vain(self) -> None:
        """No slot is free for one that waits, and none runs something less urgent that could be paused for it."""
        for known in self.held.values():
            if known.state != "waiting":
                continue
            for hands in self.workers.values():
                if not hands.serves(known.arrived.model) or (_apart(known) and hands.has_apart):
                    continue
                if hands.has_room:
                    assert self._is_slow(hands, known)
                    assert self.timer is not None, "it is looked at again"
                elif hands.has_free_lane:
                    running = [
                        lane.level
                        for lane in hands.lanes
                        if lane and not lane.paused and self._is_wanted(lane)
                    ]
                    assert max(running, default=0) <= self.level(known) or self._has_patience(
                        known.arrived.model
                    )
        for hands in self.workers.values():
            if any(lane and lane.paused for lane in hands.lanes):
                assert hands.running >= hands.slots, "what is paused goes on when a slot is free"

    def _is_wanted(self, lane: Lane) -> bool:
        """Whether somebody waits for what it runs: if not, it ends without being paused for anything."""
        return any(self.running(assignment) for assignment in lane.live)

    def _has_patience(self, model: str) -> bool:
        """Whether one with a deadline waits: it, and who stands behind it, let what runs go on for a while."""
        return any(
            known.state == "waiting" and known.arrived.model == model and known.arrived.deadline_s is not None
            for known in self.held.values()
        )

    def _may_decode_together(self, start: cmd.Start, group: list[Known]) -> None:
        keys = {(k.arrived.model, self.level(k), k.arrived.sampling) for k in group}
        assert len(keys) == 1, "one batching key and class per group"
        ((model, _, sampling),) = keys
        assert (model, sampling) == (start.model, start.sampling)
        contexts = [k.arrived.prompt_tokens + k.made for k in group]
        assert max(contexts) - min(contexts) <= SETTINGS.max_skew
        assert len(group) == 1 or (min(contexts) > 1 and all(known.losses < 2 for known in group))

    def _settle(self, settle: cmd.Settle) -> None:
        known = self.held[settle.request_id]
        arrived = known.arrived
        assert settle.dead is (settle.kind is OutcomeKind.FAILED)
        match settle.kind:
            case OutcomeKind.FAILED:
                assert known.losses == SETTINGS.max_attempts
            case OutcomeKind.CANCELLED:
                assert (arrived.tenant, arrived.request_id) in self.cancels
            case OutcomeKind.EXPIRED:
                assert arrived.deadline_s is not None
                assert arrived.deadline_s <= self.now
            case OutcomeKind.COMPLETED:
                assert settle.finish_reason is not None
            case OutcomeKind.REJECTED:
                assert arrived.deadline_s is not None, "it had a limit"
                assert known.state == "waiting"
                assert known.attempts == arrived.attempts == 0, "nothing was spent on it"
                assert settle.failure is not None
                assert settle.failure.retry_after_s > 0
        self._end(settle.request_id)

    def _end(self, request_id: str) -> None:
        assert self.held[request_id].state != "settling", "one end per request"
        self.held[request_id].state = "settling"

    # What is asked for.

    def _target(self, queue: str) -> int:
        model = self.queues[queue]
        if model is None or model not in self.models:
            return 1
        serving = [hands for hands in self.workers.values() if hands.serves(model)]
        room = sum(hands.slots * hands.joined.max_batch for hands in serving)
        return room + SETTINGS.lookahead if room else 0

    def _has(self, queue: str) -> int:
        here = sum(k.state == "waiting" and k.arrived.queue == queue for k in self.held.values())
        return here + self.coming[queue]

    def _total(self) -> int:
        return len(self.held) + sum(self.coming.values())

    def _pull(self, queue: str, count: int) -> None:
        assert not self.draining
        self.coming[queue] += count
        assert count > 0
        assert self._has(queue) <= self._target(queue)
        assert self._total() <= SETTINGS.max_held

    def _all_that_may_be_asked_for_is(self) -> None:
        if not self.draining and self._total() < SETTINGS.max_held:
            for queue in self.queues:
                # One whose share of the room is smaller asks for more when those have come.
                assert self._has(queue) >= self._target(queue) or self.coming[queue]

    def _nothing_is_late(self) -> None:
        deadlines = [
            known.arrived.deadline_s
            for known in self.held.values()
            if known.state != "settling" and known.arrived.deadline_s is not None
        ]
        if deadlines:
            assert min(deadlines) > self.now
            assert self.timer is not None
            assert self.timer <= min(deadlines), "the shell is told when to wake it"


def _apart(known: Known) -> bool:
    return known.losses >= LOSSES_BEFORE_APART
