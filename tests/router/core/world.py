"""A small model of all that is around a scheduler: it does what is commanded, and checks that it may be."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.contract.values import OutcomeKind
from headrace.router.core import commands as cmd
from headrace.router.core import events as ev
from headrace.router.core.grouping import LOSSES_BEFORE_APART
from headrace.router.core.scheduler import Scheduler, SchedulerSettings

SETTINGS = SchedulerSettings(max_held=20, lookahead=2, max_attempts=4, remembered_cancels=3)


@dataclass
class Lane:
    """A batch on a lane, as its worker sees it."""

    start: cmd.Start
    live: dict[int, int] = field(default_factory=dict)
    """Assignments that have not ended, with the index of the next token."""
    apart: bool = False


@dataclass
class Hands:
    """A worker."""

    joined: ev.WorkerJoined
    lanes: list[Lane | None]
    draining: bool = False

    @property
    def has_apart(self) -> bool:
        return any(lane is not None and lane.apart for lane in self.lanes)

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
        self.taken = ""
        """The request that another router has just taken."""
        self.draining = False
        self.peers: frozenset[str] = frozenset()
        """Models that other routers have lanes for."""

    def tell(self, event: ev.Event) -> None:
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
            case cmd.Deliver(request_id=request_id, tokens=tokens):
                known = self.held[request_id]
                assert known.state == "running"
                assert tokens.first_index == known.made, "no gap and no repeat"
                known.made = tokens.next_index
            case cmd.Settle():
                self._settle(command)
            case cmd.Release(request_id=request_id, losses=losses):
                assert self.draining or self._is_for_peers(self.held[request_id])
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
            case cmd.Pull(queue=queue, count=count):
                self._pull(queue, count)
            case cmd.WakeAt(at_s=at_s):
                assert self.timer is None or at_s < self.timer
                self.timer = at_s

    def _is_for_peers(self, known: Known) -> bool:
        """Whether it waits for what only other routers have."""
        model = known.arrived.model
        served = any(hands.serves(model) for hands in self.workers.values())
        return known.state == "waiting" and model in self.peers and not served

    def nobody_waits_for_peers(self) -> bool:
        return not any(self._is_for_peers(known) for known in self.held.values())

    def _start(self, start: cmd.Start) -> None:
        assert not self.draining
        hands = self.workers[start.worker]
        assert hands.serves(start.model)
        assert hands.lanes[start.lane] is None, "a lane is never booked twice"
        assert 1 <= len(start.assignments) <= hands.joined.max_batch
        assert start.batch not in self.batches
        self.batches.add(start.batch)
        group = [self.held[assignment.request_id] for assignment in start.assignments]
        self._goes_first(group)
        assert not (_apart(group[0]) and hands.has_apart), "those that may kill it are not together"
        self._may_decode_together(start, group)
        lane = hands.lanes[start.lane] = Lane(start, apart=_apart(group[0]))
        for assignment, known in zip(start.assignments, group, strict=True):
            assert known.state == "waiting"
            assert known.made < known.arrived.max_tokens, "there is something left to make"
            known.attempts += 1
            assert assignment.attempt == known.attempts
            assert assignment.number not in self.owners, "numbers are never used twice"
            self.owners[assignment.number] = assignment.request_id
            known.state, known.assignment = "running", assignment.number
            lane.live[assignment.number] = known.made

    def _goes_first(self, group: list[Known]) -> None:
        head = min(_place(known) for known in group)
        free = [hands for hands in self.workers.values() if None in hands.lanes]
        for known in self.held.values():
            if known.state == "waiting" and _place(known) < head:
                assert not any(
                    hands.serves(known.arrived.model)
                    for hands in free
                    if not (_apart(known) and hands.has_apart)
                )

    def _may_decode_together(self, start: cmd.Start, group: list[Known]) -> None:
        keys = {
            (k.arrived.model, k.arrived.priority, k.arrived.sampling, k.arrived.prompt_tokens + k.made)
            for k in group
        }
        assert len(keys) == 1, "one batching key per group"
        ((model, _, sampling, context),) = keys
        assert (model, sampling) == (start.model, start.sampling)
        assert len(group) == 1 or (context > 1 and all(known.losses < 2 for known in group))

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
            case _:
                raise AssertionError("nothing that was held is rejected")
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
        room = sum(len(hands.lanes) * hands.joined.max_batch for hands in serving)
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


def _place(known: Known) -> tuple[int, float, str]:
    return (known.arrived.priority, known.arrived.arrived_s, known.arrived.request_id)
