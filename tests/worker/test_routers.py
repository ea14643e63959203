"""Which router a worker tries next."""

from __future__ import annotations

import random

from headrace.contract.work import Peer
from headrace.worker.routers import Routers


def routers(*configured: str) -> Routers:
    return Routers(configured, random.Random(7))


def peers(*letters: str) -> tuple[Peer, ...]:
    return tuple(Peer(router_id=letter, address=f"{letter}:1") for letter in letters)


def one_round(known: Routers) -> list[str]:
    tried = []
    while (address := known.next()) is not None:
        tried.append(address)
    return tried


def test_a_round_tries_each_configured_router_once_in_order() -> None:
    """Then it is time to wait; the next round is the same again."""
    known = routers("a:1", "b:1")
    assert one_round(known) == ["a:1", "b:1"]
    assert known.next() is None
    known.anew()
    assert one_round(known) == ["a:1", "b:1"]


def test_peers_complete_the_configured_ones() -> None:
    """After them, without those that are the same; in any order, and not the same for every worker."""
    known = routers("a:1")
    known.told(peers("c", "a", "b", "d"))
    first, *others = one_round(known)
    assert (first, sorted(others)) == ("a:1", ["b:1", "c:1", "d:1"])
    orders = set()
    for seed in range(20):
        other = Routers(["a:1"], random.Random(seed))
        other.told(peers("a", "b", "c", "d"))
        orders.add(tuple(one_round(other)))
    assert len(orders) > 2


def test_peers_are_kept_as_long_as_they_are_told_and_configured_ones_for_ever() -> None:
    """A list replaces the one before; an empty one leaves what was configured."""
    known = routers("a:1")
    known.told(peers("a", "b"))
    known.told(peers("c"))
    assert one_round(known) == ["a:1", "c:1"]
    assert known.many
    known.told(())
    known.anew()
    assert one_round(known) == ["a:1"]
    assert not known.many


def test_the_router_that_was_left_comes_last_under_all_its_addresses() -> None:
    """It is known by its configured name and by the address that it tells of itself; alone, it is tried again."""
    known = routers("host-a:1", "b:1")
    known.told(peers("a", "b", "c"))
    assert known.next() == "host-a:1"
    known.left("host-a:1", "a")
    assert one_round(known) == ["b:1", "c:1", "host-a:1", "a:1"]
    alone = routers("a:1")
    assert alone.next() == "a:1"
    alone.left("a:1", "a")
    assert one_round(alone) == ["a:1"]


def test_a_peer_that_is_told_within_a_round_is_still_tried_in_it() -> None:
    """One that joins the mesh while others fail need not wait for the next round."""
    known = routers("a:1")
    assert known.next() == "a:1"
    known.told(peers("b"))
    assert known.next() == "b:1"
    assert known.next() is None
