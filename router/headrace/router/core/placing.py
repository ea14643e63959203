"""Which free slot a request takes, and whether a slow one is better left free.

A slow worker that is idle takes a request only if it meets the request's objectives, or if it finishes the request no
later than the faster ones would:

    finish here  = T_here(r)
    finish there = until the first slot of the others is free + T_there(r)

The others are those that can begin nothing now; of those that can, the fastest takes it, or one that is not slow
beside that. Those that go before r take the slots of the others first, each for `share` of its time, as groups go; so
the k-th in the queue is compared with what they leave. Times of a worker are those of the fastest, times how much
slower it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace

from headrace.router.core.held import Held
from headrace.router.core.lockstep import SOONEST_S
from headrace.router.core.worker import Worker


@dataclass(frozen=True, slots=True)
class Choice:
    """Who takes the slot; or nobody, and when to look again."""

    held: Held | None
    again_at_s: float | None = None


def preferred(workers: Sequence[Worker], held: Held, slower: float) -> Worker:
    """Whom a request goes to, of those that can begin it now: of the fastest for it, and those that take less than
    `slower` times as long, that which has its static prompt, then the one with the largest share of its slots free,
    then the earliest to join.
    """
    if len(workers) == 1:
        return workers[0]
    paces = [w.static_s(held) if held.static else w.pace[held.model] for w in workers]
    limit = slower * min(paces)
    return min(
        (w for w, pace in zip(workers, paces, strict=True) if pace <= limit),
        key=lambda w: (not w.has_kept(held), -w.open_slots / w.slots, w.number),
    )


def choose(
    here: Worker,
    faster: Iterable[Worker],
    waiting: Iterable[Held],
    model: str,
    *,
    apart: bool,
    now: float,
    look: int,
    lone_s: Callable[[Held], float],
    share: float,
    meets: Callable[[Held], bool],
) -> Choice:
    """The first of `waiting`, which are in order, that the slow worker `here` is to take; at most `look` are looked at.

    `faster` can begin nothing now: for those that wait `apart`, because they run another one of these, or for any.
    `lone_s` is what the fastest worker takes for a request.
    """
    best = min((w.pace[model] for w in faster), default=here.pace[model])
    slots = [
        (free_s, number, worker.pace[model] / best)
        for worker in faster
        for number, free_s in enumerate(_free_in_s(worker, now, apart=apart), worker.number << 16)
    ]
    heapify(slots)
    slower = here.pace[model] / best
    first_free_s = slots[0][0] if slots else 0.0
    for count, held in enumerate(waiting):
        if count >= look:
            break
        alone_s = lone_s(held)
        free_s, number, there = slots[0]
        if meets(held) or slower * alone_s <= free_s + there * alone_s:
            return Choice(held)
        heapreplace(slots, (free_s + share * there * alone_s, number, there))
    return Choice(None, now + max(SOONEST_S, first_free_s))


def _free_in_s(worker: Worker, now: float, *, apart: bool) -> list[float]:
    """In how many seconds each slot of a worker is free, as far as that can be told."""
    if apart and (others := [batch.residual_s(now) for batch in worker.batches() if batch.apart]):
        return others
    ends = [batch.residual_s(now) for batch in worker.batches() if batch.runs]
    return ends + [0.0] * (worker.slots - worker.leftovers - len(ends))
