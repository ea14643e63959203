"""The checker finds what it is there for: a run that broke nothing proves nothing otherwise."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import replace

import pytest

from headrace.contract.values import Failure, FinishReason, Outcome, OutcomeKind, TokenChunk, Usage
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from tests.chaos.asked import Asked, Poison, Way
from tests.chaos.blows import Struck
from tests.chaos.checker import Checker
from tests.chaos.durable import Durable
from tests.chaos.heard import Heard
from tests.chaos.oracle import Oracle, fake_continuation
from tests.chaos.reading import Reading
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
RAW = replace(ASKED, way=Way.NATS)


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
        self.seen.first_asked_s = self.seen.began_s
        end = replace(self.outcome, text="", token_ids=())
        if asked.way is Way.NATS:
            self.seen.accept("acknowledged")
            self.heard = self.seen.heard = Heard()
            for chunk in self.chunks():
                self.heard.take(chunk)
            self.heard.finished = end
            self.seen.finish(end)
            self.seen.fetched(self.outcome)
        else:
            self.reading = Reading()
            self.seen.readings.append(self.reading)
            self.call = self.seen.dials(self.reading, "gateway-1")
            self.seen.accept("by gateway-1")
            for chunk in self.chunks():
                self.reading.take(chunk)
            self.reading.finish(end)
            self.seen.finish(end)
            self.call.ended_s = time.monotonic()
        self.seen.ended_s = time.monotonic()

    def chunks(self) -> list[TokenChunk]:
        """Of three tokens each; the fake model's are characters."""
        ids, text = self.outcome.token_ids, self.outcome.text
        assert len(ids) == len(text)
        return [
            TokenChunk(first_index=at, token_ids=ids[at : at + 3], text=text[at : at + 3])
            for at in range(0, len(ids), 3)
        ]

    def keep(self, **changes: object) -> None:
        """Another outcome than the good one is durable."""
        changed = replace(self.outcome, **changes)  # type: ignore[arg-type]
        self.durable.outcomes[changed.request_id] = changed

    def hit(self, victim: str, act: Act = Act.KILL) -> None:
        """A blow fell meanwhile."""
        blow = Blow(number=1, at_s=0.0, victim=victim, act=act, down_s=0.0)
        self.blows.append(Struck(blow=blow, began_s=self.seen.began_s, back_s=time.monotonic()))

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
    case.reading.finished = None
    case.reading.take(TokenChunk(first_index=3, token_ids=(1,), text=""))


def _skip(case: Case) -> None:
    case.reading.finished = None
    case.reading.take(TokenChunk(first_index=14, token_ids=(1,), text=""))


def _go_on_after_the_end(case: Case) -> None:
    case.reading.take(TokenChunk(first_index=12, token_ids=(1,), text=""))


def _end_twice(case: Case) -> None:
    case.reading.finish(case.outcome)


def _miss_the_end(case: Case) -> None:
    del case.reading.ids[-1]


def _stream_another_token(case: Case) -> None:
    case.reading.ids[4] += 1


def _stream_another_text(case: Case) -> None:
    case.reading.texts[1] = "xxx"


def _stream_otherwise_and_break(case: Case) -> None:
    _stream_another_token(case)
    case.reading.finished = None


def _another_token(case: Case) -> None:
    case.keep(token_ids=(*case.outcome.token_ids[:-1], 7))


def _another_text(case: Case) -> None:
    case.keep(text=case.outcome.text + "!")


def _another_end(case: Case) -> None:
    case.keep(finish_reason=FinishReason.STOP)


def _one_token_less(case: Case) -> None:
    ids, text = case.outcome.token_ids[:-1], case.outcome.text[:-1]
    case.keep(token_ids=ids, text=text, usage=Usage(output_tokens=len(ids)))


def _cancelled(case: Case) -> None:
    case.keep(kind=OutcomeKind.CANCELLED, finish_reason=None)
    case.reading.finished = None


def _failed(case: Case) -> None:
    case.keep(kind=OutcomeKind.FAILED, finish_reason=None)
    case.reading.finished = None


def _expired(case: Case) -> None:
    case.keep(kind=OutcomeKind.EXPIRED, finish_reason=None)
    case.reading.finished = None


def _told_another_kind(case: Case) -> None:
    case.keep(kind=OutcomeKind.CANCELLED, finish_reason=None)
    case.seen.cancels("cancels")


def _told_otherwise(case: Case) -> None:
    case.seen.told.append(OutcomeKind.CANCELLED)


def _fetched_otherwise(case: Case) -> None:
    case.seen.fetched(replace(case.outcome, text="another"))


def _broken(case: Case) -> None:
    case.reading.finished = None
    case.seen.breaks(case.call, "Unavailable")


def _miscounted(case: Case) -> None:
    case.keep(usage=Usage(output_tokens=3))


def _usurped(case: Case) -> None:
    case.seen.usurped = True


def _denied(case: Case) -> None:
    case.seen.denied = "gateway-2"


def _refused(case: Case) -> None:
    case.seen.refuse("InvalidRequest: prompt: not liked")


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (_lose, "lost"),
        (_invent, "invented"),
        (_double, "doubled"),
        (_repeat, "gap"),
        (_skip, "gap"),
        (_go_on_after_the_end, "gap"),
        (_end_twice, "gap"),
        (_miss_the_end, "gap"),
        (_stream_another_token, "content"),
        (_stream_another_text, "content"),
        (_stream_otherwise_and_break, "content"),
        (_another_token, "content"),
        (_another_text, "content"),
        (_another_end, "content"),
        (_one_token_less, "content"),
        (_cancelled, "ended wrongly"),
        (_failed, "ended wrongly"),
        (_expired, "ended wrongly"),
        (_told_another_kind, "changed"),
        (_told_otherwise, "changed"),
        (_fetched_otherwise, "changed"),
        (_broken, "broken"),
        (_miscounted, "usage"),
        (_usurped, "usurped"),
        (_denied, "denied"),
        (_refused, "refused"),
    ],
)
def test_what_was_not_kept_is_found(oracle: Oracle, spoil: Callable[[Case], None], promise: str) -> None:
    """Each fault alone is enough, and is called by its name."""
    case = Case(oracle, ASKED)
    assert case.broken() == set(), "all is well before"
    spoil(case)
    assert promise in case.broken()


def test_a_sampled_answer_is_held_against_itself(oracle: Oracle) -> None:
    """Any tokens may have been drawn; but text, end and stream follow from them."""
    asked = replace(ASKED, sampled=True)
    for tokens in (tuple(b"another text"), tuple(b"and an other")):
        case = Case(oracle, asked)
        text = bytes(tokens).decode()
        case.outcome = replace(case.outcome, token_ids=tokens, text=text)
        case.keep()
        assert "content" in case.broken(), "the stream had others"
        case.reading.ids = array("I", tokens)
        case.reading.texts = [text]
        assert case.broken() == set()
        case.keep(text="another texX")
        assert "content" in case.broken()
    case.keep(token_ids=tokens[:-1], text=text[:-1], usage=Usage(output_tokens=11))
    assert "content" in case.broken(), "it ended before its end"


def test_a_sampled_answer_is_drawn_anew_when_all_who_knew_it_are_lost(oracle: Oracle) -> None:
    """Its client has hung up: its router and the gateway that kept what it had knew. A greedy one is the same again."""
    for sampled, hits, allowed in (
        (True, ("gateway-1", "router-1"), True),
        (True, ("gateway-2", "router-1"), False),
        (True, ("gateway-1",), False),
        (True, ("router-1",), False),
        (False, ("gateway-1", "router-1"), False),
    ):
        case = Case(oracle, replace(ASKED, way=Way.HANG_UP, sampled=sampled))
        case.reading.finished = None
        case.outcome = replace(case.outcome, token_ids=tuple(b"another text"), text="another text")
        case.keep()
        case.seen.finish(replace(case.outcome, text="", token_ids=()))
        case.seen.result = None
        for victim in hits:
            case.hit(victim)
        case.seen.ended_s = time.monotonic()
        assert case.broken() == (set() if allowed else {"content"}), (sampled, hits)


def test_an_answer_that_is_poisoned_must_fail(oracle: Oracle) -> None:
    """Not complete by a miracle."""
    case = Case(oracle, replace(ASKED, poison=Poison.FAILS))
    assert case.broken() == {"ended wrongly"}
    case.keep(kind=OutcomeKind.FAILED, finish_reason=None)
    case.reading.finished = None
    assert case.broken() == set()


def test_a_cancelled_one_may_complete_or_be_cancelled_and_not_fail(oracle: Oracle) -> None:
    """Whoever cancels knows both; nobody else is cancelled."""
    case = Case(oracle, replace(ASKED, way=Way.CANCEL))
    _cancelled(case)
    assert case.broken() == {"ended wrongly"}
    case.seen.cancels("cancels")
    assert case.broken() == set()
    _failed(case)
    assert case.broken() == {"ended wrongly"}


def test_nothing_expires_before_its_deadline(oracle: Oracle) -> None:
    """And only what has one."""
    case = Case(oracle, replace(ASKED, way=Way.DEADLINE, timeout_s=2.0))
    _expired(case)
    case.seen.known_s = case.seen.first_asked_s + 2.1
    assert case.broken() == set()
    case.seen.known_s = case.seen.first_asked_s + 1.5
    assert case.broken() == {"ended wrongly"}


def test_only_what_has_a_deadline_is_refused_as_it_would_come_too_late(oracle: Oracle) -> None:
    """And with nothing made; whatever else is rejected ended wrongly."""
    too_late = Failure(code="OVERLOADED", message="its first token would come too late; retry in 0.1 s")
    nothing = {"token_ids": (), "text": "", "text_lengths": (), "usage": Usage()}
    for timeout_s, failure, broken in (
        (2.0, too_late, set()),
        (None, too_late, {"ended wrongly"}),
        (2.0, replace(too_late, code="INVALID_REQUEST"), {"ended wrongly"}),
    ):
        case = Case(oracle, replace(ASKED, way=Way.DEADLINE, timeout_s=timeout_s))
        case.keep(kind=OutcomeKind.REJECTED, finish_reason=None, failure=failure, **nothing)
        case.reading.finished = None
        assert case.broken() & {"ended wrongly"} == broken


def test_a_cancelled_outcome_holds_a_beginning_of_the_answer(oracle: Oracle) -> None:
    """No other tokens, and no other text."""
    case = Case(oracle, replace(ASKED, way=Way.CANCEL))
    case.seen.cancels("cancels")
    case.reading.finished = None
    ids, text = case.outcome.token_ids, case.outcome.text
    ended = {"kind": OutcomeKind.CANCELLED, "finish_reason": None, "usage": Usage(output_tokens=5)}
    case.keep(token_ids=ids[:5], text=text[:5], **ended)
    assert case.broken() == set()
    case.keep(token_ids=(*ids[:4], 7), text=text[:5], **ended)
    assert case.broken() == {"content"}
    case.keep(token_ids=ids[:5], text="xxxxx", **ended)
    assert case.broken() == {"content"}


def test_what_was_not_accepted_may_have_no_outcome_and_not_another_answer(oracle: Oracle) -> None:
    """The word of its acceptance may be lost."""
    case = Case(oracle, replace(ASKED, way=Way.SUBMIT))
    case.seen.accepted, case.seen.readings = False, []
    assert case.broken() == set()
    _another_token(case)
    assert case.broken() == {"content"}
    _lose(case)
    assert case.broken() == set()


def test_a_chunk_on_nats_that_says_otherwise_is_found(oracle: Oracle) -> None:
    """One that comes again replaces; a wrong one is nobody's to put right."""
    case = Case(oracle, RAW)
    assert case.broken() == set()
    for chunk in case.chunks():
        case.heard.take(chunk)
    assert (case.heard.replaced, case.broken()) == (1, set())
    case.heard.take(replace(case.chunks()[1], first_index=2))
    assert "content" in case.broken()


def test_a_consumer_on_nats_replaces_what_comes_again(oracle: Oracle) -> None:
    """A sampled answer is drawn anew by another router: the last that was told is the outcome, or it is a fault."""
    case = Case(oracle, replace(RAW, sampled=True))
    old, new = case.outcome.token_ids, tuple(b"another text")
    case.outcome = replace(case.outcome, token_ids=new, text="another text")
    case.keep()
    case.seen.result = None
    assert case.broken() == {"content"}, "the events told another answer"
    for chunk in case.chunks():
        case.heard.take(chunk)
    assert case.broken() == set()
    assert case.heard.ids == new
    assert case.heard.text == "another text"
    # A router that was replaced and does not know it goes on with its own.
    case.heard.take(TokenChunk(first_index=9, token_ids=old[9:], text="old"))
    case.hit("router-1", Act.HANG)
    assert case.broken() == {"content"}
    case.hit("router-2")
    assert case.broken() == set(), "it could not know: the one that had replaced it was lost"


def test_a_gap_on_nats_is_excused_by_the_loss_of_its_router_or_of_the_broker_alone(oracle: Oracle) -> None:
    """The durable outcome fills it."""
    for victim, allowed in (("router-2", True), ("nats", True), ("worker-1", False), ("gateway-1", False)):
        case = Case(oracle, RAW)
        case.heard = case.seen.heard = Heard(finished=case.heard.finished)
        first, second, third, fourth = case.chunks()
        for chunk in (first, third, fourth):
            case.heard.take(chunk)
        assert (case.heard.gaps, case.heard.ids) == (2, first.token_ids)
        case.hit(victim)
        assert case.broken() == (set() if allowed else {"gap"})
        case.heard.take(second)
        case.heard.take(third)
        assert case.broken() == (set() if allowed else {"gap"})
        case.heard.take(fourth)
        assert case.broken() == set(), "it came again"


def test_what_is_replaced_from_within_a_chunk_is_cut_by_the_lengths_of_its_text(oracle: Oracle) -> None:
    """Without them all text of a chunk is its last token's."""
    case = Case(oracle, RAW)
    ids, text = case.outcome.token_ids, case.outcome.text
    rest = TokenChunk(first_index=4, token_ids=ids[4:], text=text[4:])
    case.heard = case.seen.heard = Heard(finished=case.heard.finished)
    case.heard.take(TokenChunk(first_index=0, token_ids=ids[:6], text=text[:6], text_lengths=(1,) * 6))
    case.heard.take(rest)
    assert (case.heard.ids, case.heard.text, case.broken()) == (ids, text, set())
    case.heard.take(TokenChunk(first_index=0, token_ids=ids[:6], text=text[:6]))
    case.heard.take(rest)
    assert (case.heard.ids, case.heard.text) == (ids, text[4:])
    assert case.broken() == {"content"}


def test_a_client_that_attaches_reads_the_rest(oracle: Oracle) -> None:
    """In another call of the same reading; or in a reading of its own, from any index."""
    case = Case(oracle, ASKED)
    ids, text = case.outcome.token_ids, case.outcome.text
    lengths = (1,) * len(ids)
    case.keep(text_lengths=lengths)
    late = case.seen.reads(first=7)
    late.take(TokenChunk(first_index=7, token_ids=ids[7:], text=text[7:]))
    late.finish(replace(case.outcome, text="", token_ids=()))
    assert case.broken() == set()
    late.texts = ["?"]
    assert case.broken() >= {"content"}
    late.texts, late.ids = [text[7:-1]], array("I", ids[7:-1])
    assert case.broken() == {"gap"}


def test_what_is_to_be_kept_is_not_cancelled_by_a_call_that_ends(oracle: Oracle) -> None:
    """By nothing but a cancellation."""
    for keep, promises in ((False, set()), (True, {"ended wrongly"})):
        case = Case(oracle, replace(ASKED, way=Way.HANG_UP, keep=keep))
        _cancelled(case)
        case.seen.cancels("hangs up")
        assert case.broken() == promises


def test_a_stream_may_break_where_its_gateway_was_hit_and_only_there(oracle: Oracle) -> None:
    """And its outcome is there all the same."""
    for victim, allowed in (("gateway-1", True), ("gateway-2", False), ("router-1", False)):
        case = Case(oracle, ASKED)
        _broken(case)
        case.hit(victim)
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
