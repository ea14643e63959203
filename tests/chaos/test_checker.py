"""The checker finds what it is there for: a run that broke nothing proves nothing otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from headrace.contract.values import FinishReason, Outcome, OutcomeKind, TokenChunk, Usage
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from tests.chaos.asked import Asked, Way
from tests.chaos.blows import Struck
from tests.chaos.checker import Checker
from tests.chaos.durable import Durable
from tests.chaos.oracle import Oracle, fake_continuation
from tests.chaos.schedule import Act, Blow
from tests.chaos.seen import Seen

ASKED = Asked(
    client="stream 0",
    number=1,
    way=Way.STREAM,
    request_id="018bcfe5-6800-7000-8000-000000000001",
    prompt="hello there",
    max_tokens=12,
)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    store = ModelStore(tmp_path_factory.mktemp("models"))
    install_fake_model(store)
    return Oracle(store, "fake", fake_continuation(store, "fake"))


class Case:
    """A request that went well; a test spoils it."""

    def __init__(self, oracle: Oracle, asked: Asked) -> None:
        self._oracle = oracle
        expected = oracle.expect(asked)
        self.outcome = Outcome(
            request_id=asked.request_id,
            kind=OutcomeKind.COMPLETED,
            model="fake",
            usage=Usage(output_tokens=len(expected.token_ids), attempts=1),
            finish_reason=expected.finish_reason,
            text=expected.text,
            token_ids=expected.token_ids,
        )
        self.seen = Seen(asked)
        self.durable = Durable(outcomes={asked.request_id: self.outcome})
        self.blows: list[Struck] = []
        self.seen.note("asks gateway-1")
        self.seen.accept("by gateway-1")
        self.seen.gateway = "gateway-1"
        if asked.way is Way.NATS:
            self.seen.hear(TokenChunk(first_index=0, token_ids=expected.token_ids, text=expected.text))
            self.seen.fetched(self.outcome)
        else:
            half = 5
            self.seen.take(TokenChunk(first_index=0, token_ids=expected.token_ids[:half], text=expected.text))
            self.seen.take(TokenChunk(first_index=half, token_ids=expected.token_ids[half:], text=""))
            self.seen.finish(replace(self.outcome, text="", token_ids=()))
        self.seen.ended_s = time.monotonic()

    def keep(self, **changes: object) -> None:
        """Another outcome than the good one is durable."""
        changed = replace(self.outcome, **changes)  # type: ignore[arg-type]
        self.durable.outcomes[changed.request_id] = changed

    def broken(self) -> set[str]:
        found = Checker(self._oracle, self.durable, self.blows).check([self.seen])
        return {violation.promise for violation in found}


def _lose(case: Case) -> None:
    case.durable.outcomes.clear()


def _invent(case: Case) -> None:
    case.durable.outcomes["018bcfe5-6800-7000-8000-000000000009"] = case.outcome


def _double(case: Case) -> None:
    case.durable.doubled.append(ASKED.request_id)


def _repeat(case: Case) -> None:
    case.seen.take(TokenChunk(first_index=3, token_ids=(1,), text=""))


def _miss_the_end(case: Case) -> None:
    del case.seen.ids[-1]


def _another_token(case: Case) -> None:
    case.keep(token_ids=(*case.outcome.token_ids[:-1], 7))


def _another_text(case: Case) -> None:
    case.keep(text=case.outcome.text + "!")


def _another_end(case: Case) -> None:
    case.keep(finish_reason=FinishReason.STOP)


def _cancelled(case: Case) -> None:
    case.keep(kind=OutcomeKind.CANCELLED, finish_reason=None)
    case.seen.finished = None


def _told_otherwise(case: Case) -> None:
    case.seen.told.append(OutcomeKind.CANCELLED)


def _broken(case: Case) -> None:
    case.seen.finished = None
    case.seen.break_off("Unavailable")


def _miscounted(case: Case) -> None:
    case.keep(usage=Usage(output_tokens=3))


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (_lose, "lost"),
        (_invent, "invented"),
        (_double, "doubled"),
        (_repeat, "gap"),
        (_miss_the_end, "gap"),
        (_another_token, "content"),
        (_another_text, "content"),
        (_another_end, "content"),
        (_cancelled, "ended wrongly"),
        (_told_otherwise, "changed"),
        (_broken, "broken"),
        (_miscounted, "usage"),
    ],
)
def test_what_was_not_kept_is_found(oracle: Oracle, spoil: Callable[[Case], None], promise: str) -> None:
    """Each fault alone is enough, and is called by its name."""
    case = Case(oracle, ASKED)
    assert case.broken() == set(), "all is well before"
    spoil(case)
    assert promise in case.broken()


def test_a_chunk_on_nats_that_says_otherwise_is_found(oracle: Oracle) -> None:
    """One that comes again, or never, is the consumer's to put right; a wrong one is nobody's."""
    case = Case(oracle, replace(ASKED, way=Way.NATS))
    ids = case.outcome.token_ids
    case.seen.hear(TokenChunk(first_index=2, token_ids=ids[2:4], text="xx"))
    assert case.broken() == set()
    case.seen.hear(TokenChunk(first_index=2, token_ids=ids[3:5], text="xx"))
    assert case.broken() == {"content"}


def test_a_stream_may_break_where_its_gateway_was_hit_and_only_there(oracle: Oracle) -> None:
    """And its outcome is there all the same."""
    for victim, allowed in (("gateway-1", True), ("gateway-2", False), ("router-1", False)):
        case = Case(oracle, ASKED)
        _broken(case)
        blow = Blow(number=1, at_s=0.0, victim=victim, act=Act.KILL, down_s=0.0)
        now_s = time.monotonic()
        case.blows.append(Struck(blow=blow, began_s=case.seen.began_s, back_s=now_s))
        assert case.broken() == (set() if allowed else {"broken"})


def test_the_oracle_knows_the_end_of_an_answer(oracle: Oracle) -> None:
    """The limit, a stop string before it, and an end token of the model's own."""
    whole = oracle.expect(replace(ASKED, max_tokens=200))
    assert (len(whole.token_ids), whole.finish_reason) == (200, FinishReason.LENGTH)
    stopped = oracle.expect(replace(ASKED, max_tokens=200, stop=(whole.text[40:44],)))
    assert stopped.finish_reason is FinishReason.STOP
    assert whole.text.startswith(stopped.text)
    ended = oracle.expect(replace(ASKED, prompt="\x04hello", max_tokens=200))
    assert ended.finish_reason is FinishReason.END
