"""Which models go on which nodes: by example, and what holds for any wants and nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.router.core.placement import Node, Placement, PlacementRules, Want, may_have, place

RULES = PlacementRules(swap=2.0, residency_s=60.0)
MB = 1_000_000


def want(reference: str, mb: int = 100, **how: Any) -> Want:
    return Want(reference=reference, memory_bytes=mb * MB, **how)


def node(name: str, mb: int = 250, **how: Any) -> Node:
    return Node(name=name, memory_bytes=mb * MB, **how)


def put(wants: list[Want], nodes: list[Node], now: float = 1000.0) -> Placement:
    return place(wants, nodes, RULES, now)


def test_every_model_has_one_replica_before_any_has_two() -> None:
    """Even where one of them is asked for far more."""
    placed = put(
        [want("hot", replicas=0, value=9.0), want("cold", replicas=0)], [node("a", 200), node("b", 100)]
    )
    assert sorted(ref for has in placed.nodes.values() for ref in has) == ["cold", "hot", "hot"]


def test_room_goes_to_the_most_work_per_gigabyte() -> None:
    """A small model with less work goes before a large one with a little more."""
    placed = put([want("large", 200, value=3.0), want("small", 100, value=2.0)], [node("a", 250)])
    assert placed.nodes["a"] == ("small",)
    assert placed.waiting == {"large": "no node has 200 MB free: it waits for room"}


def test_labels_and_devices_choose_the_nodes() -> None:
    """A model goes only where it is wanted; where that is nowhere, the reason says what is missing."""
    nodes = [node("a", labels={"zone": "a"}), node("b", labels={"zone": "b"}, device="cuda")]
    wants = [want("m", labels={"zone": "b"}), want("n", device="cpu"), want("o", labels={"zone": "c"})]
    placed = put([*wants, want("p", 900)], nodes)
    assert placed.nodes == {"a": ("n",), "b": ("m",)}
    assert placed.waiting["o"] == "no node has zone=c"
    assert placed.waiting["p"] == "it takes about 900 MB, and the largest node that may have it has 250 MB"


def test_what_a_node_has_stays_there() -> None:
    """Though a new model is worth more, and though another node has more room."""
    placed = put([want("m"), want("n", value=9.0)], [node("a", 100, given={"m": 0.0}), node("b", 900)])
    assert placed.nodes == {"a": ("m",), "b": ("n",)}


def test_another_replica_makes_room_for_a_first_one() -> None:
    """Of a model that is elsewhere, too, one goes, whatever it is worth; but not before it has been there for a
    while.
    """
    wants = [want("m", replicas=2, value=9.0), want("n")]
    nodes = [node("a", 100, given={"m": 0.0}), node("b", 100, given={"m": 0.0})]
    assert sorted(put(wants, nodes).nodes.values()) == [("m",), ("n",)]
    assert put(wants, nodes, now=59.0).waiting.keys() == {"n"}


def test_a_swap_pays_for_its_load_twice() -> None:
    """The only replica of a model goes where what waits for the other exceeds what waits for it by two loads."""
    here = [node("a", 100, given={"m": 0.0})]
    old = want("m", value=1.0, backlog_s=5.0)
    new = want("n", value=2.0, backlog_s=25.0, load_s=10.0)
    assert put([old, new], here).nodes["a"] == ("n",)
    assert put([old, replace(new, backlog_s=24.9)], here).nodes["a"] == ("m",)
    assert put([old, replace(new, value=0.5)], here).nodes["a"] == ("m",)
    assert put([old, new], here, now=59.0).nodes["a"] == ("m",)


def test_what_could_not_be_loaded_is_tried_elsewhere() -> None:
    """It moves to a node with room; where there is none it stays, and is tried again there."""
    failed = node("a", given={"m": 0.0}, failed=frozenset("m"))
    assert put([want("m")], [failed, node("b")]).nodes == {"a": (), "b": ("m",)}
    assert put([want("m")], [failed, node("b", 50)]).nodes == {"a": ("m",), "b": ()}


def test_what_is_loaded_stays_though_it_takes_more_than_was_thought() -> None:
    """Its node has it in memory: to unload it, and then to load it again by the old guess, would go on for ever."""
    here = node("a", 100, given={"m": 0.0}, loaded=frozenset("m"))
    assert put([want("m", 130), want("n", 10)], [here]).nodes == {"a": ("m",)}
    assert put([want("m", 130, labels={"zone": "b"})], [here]).nodes == {"a": ()}


def test_a_node_that_is_away_keeps_its_models_and_gets_no_more() -> None:
    """It is expected back: nobody else loads what it has, until it is given up."""
    away = node("a", 0, given={"m": 0.0}, away=True)
    assert put([want("m"), want("n")], [away, node("b")]).nodes == {"a": ("m",), "b": ("n",)}
    assert put([want("m")], [away]).nodes == {"a": ("m",)}
    assert put([want("n")], [away]).waiting == {"n": "no node has come yet"}


REFERENCES = ["m", "n", "o", "p@0123456789ab"]
LABELS = st.dictionaries(st.sampled_from(["zone", "disk"]), st.sampled_from("ab"), max_size=2)
WANTS = st.lists(
    st.builds(
        want,
        st.sampled_from(REFERENCES),
        st.integers(1, 300),
        replicas=st.integers(0, 3),
        labels=st.one_of(st.just({}), LABELS),
        device=st.sampled_from(["", "", "cpu", "cuda"]),
        value=st.floats(0, 10),
        backlog_s=st.floats(0, 100),
        load_s=st.floats(0, 30),
        asked_s=st.floats(0, 10),
    ),
    unique_by=lambda w: w.reference,
    max_size=4,
)
NODES = st.lists(
    st.builds(
        node,
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 600),
        labels=LABELS,
        device=st.sampled_from(["cpu", "cuda"]),
        given=st.dictionaries(st.sampled_from([*REFERENCES, "gone"]), st.floats(0, 1000), max_size=3),
        failed=st.frozensets(st.sampled_from(REFERENCES), max_size=2),
    ),
    unique_by=lambda n: n.name,
    max_size=3,
)


def as_given(nodes: list[Node], placed: Placement, now: float) -> list[Node]:
    """The nodes once they have what was placed."""
    return [replace(n, given={ref: n.given.get(ref, now) for ref in placed.nodes[n.name]}) for n in nodes]


@settings(max_examples=300, deadline=None)
@given(WANTS, NODES)
def test_what_holds_for_any_placement(wants: list[Want], nodes: list[Node]) -> None:
    """No node has more than its memory, or what it may not have; no model has more replicas than wanted; one that has
    none could have none without another losing its only one; and a model is on a node, or there is a reason.
    """
    placed, by_name = put(wants, nodes), {w.reference: w for w in wants}
    count = {w.reference: sum(w.reference in has for has in placed.nodes.values()) for w in wants}
    free = {}
    for n in nodes:
        has = [by_name[reference] for reference in placed.nodes[n.name]]
        free[n.name] = n.memory_bytes - sum(w.memory_bytes for w in has)
        assert free[n.name] >= 0
        assert all(may_have(n, w) for w in has)
    for w in wants:
        assert not w.replicas or count[w.reference] <= w.replicas
        assert (w.reference in placed.waiting) == (count[w.reference] == 0)
        for n in nodes:
            if count[w.reference] == 0 and may_have(n, w):
                spare = sum(
                    by_name[r].memory_bytes
                    for r in placed.nodes[n.name]
                    if count[r] > 1 and 1000.0 - n.given.get(r, 1000.0) >= RULES.residency_s
                )
                assert free[n.name] + spare < w.memory_bytes


@settings(max_examples=200, deadline=None)
@given(WANTS, NODES, st.randoms())
def test_a_placement_is_stable(wants: list[Want], nodes: list[Node], order: Any) -> None:
    """The order of wants and nodes changes nothing, and once it is so the next run keeps it."""
    placed = put(wants, nodes)
    wants, nodes = list(wants), list(nodes)
    order.shuffle(wants)
    order.shuffle(nodes)
    assert put(wants, nodes) == placed
    assert put(wants, as_given(nodes, placed, 1000.0)).nodes == placed.nodes


@settings(max_examples=200, deadline=None)
@given(WANTS, NODES)
def test_what_came_lately_stays(wants: list[Want], nodes: list[Node]) -> None:
    """Within the minimum residency nothing that is still wanted there, and fits, is taken away for another."""
    nodes = [replace(n, failed=frozenset(), given=dict.fromkeys(n.given, 1000.0)) for n in nodes]
    first = put(wants, nodes)
    nodes = as_given(nodes, first, 1000.0)
    shifted = [replace(w, backlog_s=100.0 - w.backlog_s, value=10.0 - w.value) for w in wants]
    assert all(set(first.nodes[n]) <= set(has) for n, has in put(shifted, nodes, now=1030.0).nodes.items())
