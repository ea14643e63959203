"""The whole of a run: which item comes when, by the seed."""

from __future__ import annotations

from random import Random

from tests.hostile.calls import abandoned, called
from tests.hostile.items import Called, Item, Queued, Said, Sent
from tests.hostile.peers import peer, said, sent
from tests.hostile.queued import queued

_MIX = ((queued, 50), (called, 24), (abandoned, 10), (peer, 6), (said, 7), (sent, 3))


def item(seed: int, number: int) -> Item:
    """Item `number` of a run: the same whatever else is in the run."""
    rng = Random(f"{seed}/{number}")
    (make,) = rng.choices([make for make, _ in _MIX], [weight for _, weight in _MIX])
    return make(rng)


def kind_of(item: Item) -> str:
    """What an item is called in a report."""
    match item:
        case Queued():
            return "queue message"
        case Called(target="router"):
            return "call of the router"
        case Called(leaves_s=None):
            return "call of the gateway"
        case Called():
            return "call that breaks off"
        case Said():
            return "word on NATS"
        case Sent():
            return "bytes at a port"
