"""Which version answers, by what is served, how long it waits, and where a request began."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from headrace.contract.alias import Alias, chain, with_canary
from headrace.contract.requests import Request
from headrace.contract.values import Priority
from headrace.router.resolving import Resolved, resolve

REQUEST = Request(id="r", tenant="t", model="chat", priority=Priority.NORMAL)
CHAT = Alias(name="chat", stable="a", fallbacks=("b", "c"))


@dataclass
class Fleet:
    """What a router knows, as the test says."""

    served: set[str]
    known: set[str] = field(default_factory=lambda: {"a", "b", "c", "a2"})
    waits: dict[str, float] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)

    def knows(self, reference: str) -> bool:
        return reference in self.known

    def serves(self, reference: str) -> bool:
        return reference in self.served

    def wait_s(self, reference: str, request: Request) -> float:
        return self.waits.get(reference, 0.0)

    def words(self, reference: str) -> str:
        return self.same.get(reference, reference if self.knows(reference) else "")


def resolved(
    fleet: Fleet, alias: Alias | None = CHAT, began_at: str = "", patience_s: float = 10.0
) -> Resolved:
    return resolve(REQUEST, alias, fleet, began_at=began_at, patience_s=lambda request: patience_s)


def test_a_model_is_itself() -> None:
    """Served or not."""
    assert resolved(Fleet(set()), alias=None) == Resolved(model="chat")


def test_an_absent_model_has_its_fallback_answer() -> None:
    """The first of the chain that is there; where none is, it waits for the first that can be tokenised for."""
    assert resolved(Fleet({"a", "b"})).model == "a"
    assert resolved(Fleet({"b", "c"})).model == "b"
    assert resolved(Fleet({"c"})).model == "c"
    assert resolved(Fleet(set())).model == "a"
    assert resolved(Fleet(set(), known={"b"})).model == "b"
    assert resolved(Fleet({"a"}, known=set())).model == "a", "refused as unknown by who tokenises"


def test_an_overloaded_model_has_its_fallback_answer() -> None:
    """Where the wait is longer than the request can bear; where all are overloaded, the first."""
    assert resolved(Fleet({"a", "b"}, waits={"a": 11.0})).model == "b"
    assert resolved(Fleet({"a", "b"}, waits={"a": 9.0})).model == "a"
    assert resolved(Fleet({"a", "b"}, waits={"a": 9.0}), patience_s=1.0).model == "b"
    assert resolved(Fleet({"a", "b"}, waits={"a": 11.0, "b": 12.0})).model == "a"


def test_a_canary_that_is_gone_has_the_stable_version_answer() -> None:
    """Though the request is of its share."""
    assert resolved(Fleet({"a", "a2"}), with_canary(CHAT, "a2", 1.0)).model == "a2"
    assert resolved(Fleet({"a"}), with_canary(CHAT, "a2", 1.0)).model == "a"


def test_a_request_that_has_begun_goes_on_at_its_version_while_that_is_served() -> None:
    """Wherever the alias points to by now."""
    moved = Alias(name="chat", stable="b")
    assert resolved(Fleet({"a", "b"}), moved, began_at="a") == Resolved(model="a", asked="chat")


def test_a_request_whose_version_is_gone_goes_on_where_the_words_are_the_same() -> None:
    """And says so. Where there is none such, it waits for its own, and is not sent round."""
    alike = Fleet({"b", "c"}, same={"a": "words", "c": "words"})
    assert resolved(alike, began_at="a") == Resolved(model="c", asked="chat", left="a")
    assert resolved(Fleet({"b", "c"}), began_at="a") == Resolved(model="a")
    assert resolved(Fleet({"b", "c"}, known={"b"}), began_at="a") == Resolved(model="a"), (
        "what is not known is no like"
    )


@given(st.sets(st.sampled_from(["a", "b", "c", "a2"]), min_size=1), st.floats(0, 1))
def test_what_is_chosen_is_served_where_anything_of_the_chain_is(served: set[str], share: float) -> None:
    """The invariant behind a roll-out without a failure: nobody is sent to a version that nobody runs."""
    alias = with_canary(CHAT, "a2", share)
    there = [reference for reference in chain(alias, "r") if reference in served]
    found = resolved(Fleet(served), alias)
    assert found.model == (there[0] if there else chain(alias, "r")[0])
