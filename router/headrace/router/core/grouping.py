"""Who decodes together: the group that a free lane takes when `head` is the request that goes first.

The engine runs a batch in lockstep and prefills in parallel only as far as the shortest prompt reaches, so a group
holds requests of equal context, class and sampling. It takes its share of them, not all: with several free lanes,
each lane gets its part.

    cap = ceil(compatible waiting / free lanes), at most the lane's largest batch
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from headrace.router.core.held import Held

LOSSES_BEFORE_ALONE = 2
"""After so many lost attempts a request runs alone: if it is what kills workers, it takes nobody along."""

LOSSES_BEFORE_APART = 3
"""After so many it also waits for a worker that runs no other of its like. A worker's end takes along whatever it ran:
without this, those that fled from one worker to the next together with the one that kills workers would be given up
together with it.
"""


def form_group(head: Held, compatible: Sequence[Held], *, free_lanes: int, max_batch: int) -> list[Held]:
    """`head` and those that go with it. `compatible` are the requests of its batch key in order, so that `head`, which
    goes first, stands first; `free_lanes` is at least 1.
    """
    assert compatible[0] is head, "who goes first of all goes first of its like"
    if goes_alone(head):
        return [head]
    return list(compatible[: min(max_batch, ceil(len(compatible) / free_lanes))])


def goes_alone(held: Held) -> bool:
    """Whether it shares a batch with nobody."""
    # A prompt of one token makes the engine return the other entries' prompts as their output.
    return held.context <= 1 or held.losses >= LOSSES_BEFORE_ALONE


def goes_apart(held: Held) -> bool:
    """Whether it shares a worker with no other of which this is so."""
    return held.losses >= LOSSES_BEFORE_APART
