"""The lives of the held requests: every change of state is here, with the command that ends a life.

A request gets one Settle, one Release or one LetGo, and no command after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from headrace.contract.errors import DeadlinePassed, TooManyAttempts
from headrace.contract.values import Failure, FinishReason, OutcomeKind, TokenChunk, Vector
from headrace.router.core.commands import Assignment, Command, Deliver, LetGo, Release, Requeued, Settle, Stop
from headrace.router.core.deadlines import Deadlines
from headrace.router.core.events import RequestArrived
from headrace.router.core.held import SETTLING, WAITING, Held, Running, Settling, Waiting
from headrace.router.core.waiting import WaitingList


class Lives:
    """The held requests, by id and by assignment.

    Invariants: a request is in `waiting` iff its state is Waiting; `_assigned` maps exactly the assignments of Running
    requests; `_deadlines` are those of requests that wait or run.
    """

    def __init__(
        self,
        waiting: WaitingList,
        *,
        max_attempts: int,
        on_waiting: Callable[[str, int], None],
        on_end: Callable[[Held], None],
    ) -> None:
        """`on_waiting(queue, change)` is told how many more, or fewer, of a queue wait; `on_end` of each end."""
        self.waiting = waiting
        self._max_attempts = max_attempts
        self._on_waiting = on_waiting
        self._on_end = on_end
        self._held: dict[str, Held] = {}
        self._assigned: dict[int, Held] = {}
        self._deadlines = Deadlines()
        self.draining = False
        """Whether what cannot go on is given back rather than left waiting. Written by the Scheduler."""

    def __repr__(self) -> str:
        return f"held={len(self._held)}, waiting={len(self.waiting)}, running={len(self._assigned)}"

    def __len__(self) -> int:
        return len(self._held)

    def get(self, request_id: str) -> Held | None:
        return self._held.get(request_id)

    # Begin.

    def begin(self, event: RequestArrived) -> Held:
        """Holds a request; it does not wait yet."""
        assert event.request_id not in self._held, "the shell knows whom it holds"
        held = self._held[event.request_id] = Held(
            request_id=event.request_id,
            queue=event.queue,
            model=event.model,
            priority=event.priority,
            tenant=event.tenant,
            sampling=event.sampling,
            prompt_tokens=event.prompt_tokens,
            max_tokens=event.max_tokens,
            arrived_s=event.arrived_s,
            deadline_s=event.deadline_s,
            generated=event.generated,
            level=int(event.priority),
            attempts=event.attempts,
            static=event.static,
            static_tokens=event.static_tokens,
            asked=event.asked,
            losses=event.losses,
            state=SETTLING,
            task=event.task,
            texts=event.texts,
        )
        return held

    def wait(self, held: Held) -> None:
        """From now on it waits, for the first time or again."""
        held.state = WAITING
        self.waiting.add(held)
        self._on_waiting(held.queue, +1)
        if held.deadline_s is not None and held.request_id not in self._deadlines:
            self._deadlines.add(held.request_id, held.deadline_s)

    # Run.

    def assign(self, held: Held, number: int, worker: str) -> Assignment:
        """A waiting request is on a lane now."""
        self._stop_waiting(held)
        held.attempts += 1
        held.state = Running(assignment=number, worker=worker)
        self._assigned[number] = held
        return Assignment(number=number, request_id=held.request_id, attempt=held.attempts)

    def move(self, held: Held, number: int, worker: str) -> tuple[Stop, Assignment]:
        """A running request goes on in another batch, with the tokens so far."""
        assert isinstance(held.state, Running), "only what runs can move"
        stop = Stop(worker=held.state.worker, assignment=held.state.assignment)
        del self._assigned[held.state.assignment]
        held.attempts += 1
        held.moves += 1
        held.state = Running(assignment=number, worker=worker)
        self._assigned[number] = held
        return stop, Assignment(number=number, request_id=held.request_id, attempt=held.attempts)

    def advance(self, assignment: int, tokens: TokenChunk) -> list[Command] | None:
        """Delivers the next tokens; a late frame is ignored. None where they cannot be the next ones: some before them
        are missing, or they are more than were asked for.
        """
        held = self._assigned.get(assignment)
        if held is None or tokens.first_index < held.generated:
            return []
        if tokens.first_index > held.generated or tokens.next_index > held.max_tokens:
            return None
        held.generated = tokens.next_index
        return [Deliver(request_id=held.request_id, tokens=tokens)]

    def break_off(self, assignment: int, reason: str) -> list[Command]:
        """Its worker makes no sense: the attempt is lost, and the worker told to end it."""
        held = self._assigned[assignment]
        assert isinstance(held.state, Running), "an assigned request runs"
        stop = Stop(worker=held.state.worker, assignment=assignment)
        return [stop, *self.lose(assignment, reason)]

    def assigned(self, assignment: int) -> Held | None:
        """The request that an assignment runs, if it still counts."""
        return self._assigned.get(assignment)

    def complete(
        self, assignment: int, reason: FinishReason, vectors: tuple[Vector, ...] = ()
    ) -> list[Command]:
        """Its generation ended by itself, or the vectors of its texts are there."""
        held = self._assigned.get(assignment)
        if held is None:
            return []
        if len(vectors) != held.texts:
            return self.break_off(assignment, "its worker made other vectors than were asked for")
        del self._assigned[assignment]
        held.embedded = bool(vectors)
        return [self._settle(held, OutcomeKind.COMPLETED, reason=reason, vectors=vectors)]

    def hand_back(self, assignment: int, reason: str) -> list[Command]:
        """Its worker gives it back: it waits again."""
        held = self._assigned.pop(assignment, None)
        return [] if held is None else [self._again(held, reason)]

    def lose(self, assignment: int, reason: str, code: str = "") -> list[Command]:
        """Its attempt failed: it waits again, or is given up after too many. `code`: of what its worker told."""
        held = self._assigned.pop(assignment, None)
        if held is None:
            return []
        held.losses += 1
        if held.complete or held.losses < self._max_attempts:
            return [self._again(held, reason, code)]
        error = TooManyAttempts(held.losses, reason)
        failure = Failure.of(error)
        return [self._settle(held, OutcomeKind.FAILED, failure=failure, dead=True)]

    def _again(self, held: Held, reason: str, code: str = "") -> Command:
        if held.complete:  # its worker was lost between the last token and the end
            return self._settle(held, OutcomeKind.COMPLETED, reason=FinishReason.LENGTH)
        if self.draining:
            return self._release(held)
        self.wait(held)
        return Requeued(request_id=held.request_id, reason=reason, code=code)

    # End.

    def settle(self, held: Held, kind: OutcomeKind, reason: FinishReason | None = None) -> list[Command]:
        """Ends it with an outcome, in whatever state it is; nothing where it is ending already."""
        stop = self._leave(held)
        return [] if stop is None else [*stop, self._settle(held, kind, reason=reason)]

    def release(self, held: Held) -> list[Command]:
        """Gives it back to its queue, in whatever state it is; nothing where it is ending already."""
        stop = self._leave(held)
        return [] if stop is None else [*stop, self._release(held)]

    def let_go(self, held: Held) -> list[Command]:
        """Forgets one that another router has taken; nothing where it is ending already: the first outcome counts."""
        stop = self._leave(held)
        if stop is None:
            return []
        self._ends(held)
        self.forget(held.request_id)
        return [*stop, LetGo(request_id=held.request_id)]

    def end_new(self, held: Held, kind: OutcomeKind, reason: FinishReason | None = None) -> list[Command]:
        """Ends one that never waited."""
        return [self._settle(held, kind, reason=reason)]

    def release_new(self, held: Held) -> list[Command]:
        """Gives back one that never waited."""
        return [self._release(held)]

    def expire(self, now: float) -> list[Command]:
        """Ends the requests whose deadline has come."""
        out: list[Command] = []
        for request_id in self._deadlines.pop_due(now):
            held = self._held[request_id]
            stop = self._leave(held)
            if stop is not None:
                out += [*stop, self.expired(held, now)]
        return out

    def expired(self, held: Held, now: float) -> Settle:
        """The end of one whose deadline has come, and which neither waits nor runs."""
        assert held.deadline_s is not None
        error = DeadlinePassed(now - held.deadline_s)
        failure = Failure.of(error)
        return self._settle(held, OutcomeKind.EXPIRED, failure=failure)

    def refuse(self, held: Held, failure: Failure) -> list[Command]:
        """Ends one that waits, or never did, because it could not be answered in time."""
        if isinstance(held.state, Waiting):
            self._stop_waiting(held)
        return [self._settle(held, OutcomeKind.REJECTED, failure=failure)]

    def release_all(self, *, waiting_only: bool) -> list[Command]:
        """Gives all back, or all that wait."""
        everyone = list(self.waiting) if waiting_only else list(self._held.values())
        return [command for held in everyone for command in self.release(held)]

    def release_waiting(
        self, model: str, wanted: Callable[[Held], bool] = lambda held: True
    ) -> list[Command]:
        """Gives back those of a model that wait, as far as they are wanted."""
        return [command for held in self.waiting.of(model) if wanted(held) for command in self.release(held)]

    def forget(self, request_id: str) -> None:
        """Its end is durable."""
        self._held.pop(request_id, None)

    def woke(self) -> None:
        self._deadlines.woke()

    def next_wake(self, again_at_s: float | None) -> float | None:
        """When to look for expired requests, or at `again_at_s` if that is earlier; None where the shell knows."""
        return self._deadlines.next_wake(again_at_s)

    def _leave(self, held: Held) -> list[Command] | None:
        """Takes it out of where it is, with the command that this needs; None where it is ending already."""
        match held.state:
            case Settling():
                return None
            case Waiting():
                self._stop_waiting(held)
                return []
            case Running(assignment=assignment, worker=worker):
                del self._assigned[assignment]
                return [Stop(worker=worker, assignment=assignment)]
            case _:
                assert_never(held.state)

    def _stop_waiting(self, held: Held) -> None:
        self.waiting.remove(held)
        self._on_waiting(held.queue, -1)

    def _settle(
        self,
        held: Held,
        kind: OutcomeKind,
        *,
        reason: FinishReason | None = None,
        failure: Failure | None = None,
        dead: bool = False,
        vectors: tuple[Vector, ...] = (),
    ) -> Settle:
        self._ends(held)
        return Settle(
            request_id=held.request_id,
            kind=kind,
            finish_reason=reason,
            failure=failure,
            dead=dead,
            vectors=vectors,
            losses=held.losses,
        )

    def _release(self, held: Held) -> Release:
        self._ends(held)
        return Release(request_id=held.request_id, losses=held.losses)

    def _ends(self, held: Held) -> None:
        held.state = SETTLING
        self._on_end(held)
        self._deadlines.remove(held.request_id)
