"""Holds what clients and durable outcomes saw against what Headrace promises. Looks at nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.contract.errors import Overloaded
from headrace.contract.values import Outcome, OutcomeKind
from tests.chaos.asked import Asked, Way
from tests.chaos.blows import Struck
from tests.chaos.durable import Durable
from tests.chaos.heard import Heard
from tests.chaos.oracle import Expected, Oracle
from tests.chaos.reading import Call, Reading
from tests.chaos.schedule import Act, kind_of
from tests.chaos.seen import Seen, brief

DISTURBED_S = 1.0
"""So long after a gateway is back, a stream that it held may still break for it."""
NETWORK_S = 0.05
ROUNDING = 0.011
"""What a deadline may lose on its way: gRPC sends three digits of it."""

K = OutcomeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was not kept. `seen`: to whom; None = to nobody in particular."""

    promise: str
    what: str
    seen: Seen | None = None

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}" + (f" [{self.seen.asked.name}]" if self.seen else "")


class Checker:
    """`violations` of one run. The blows are there to excuse what a client cannot be spared: the call that a lost
    gateway held, and events on NATS that were lost with a router or the broker.
    """

    def __init__(self, oracle: Oracle, durable: Durable, blows: Sequence[Struck]) -> None:
        self._oracle = oracle
        self._durable = durable
        self._blows = blows
        self.violations: list[Violation] = []

    def check(self, all_seen: Sequence[Seen]) -> list[Violation]:
        """Everything about every request."""
        asked = {seen.asked.request_id for seen in all_seen}
        for request_id in self._durable.outcomes.keys() - asked:
            self._violate("invented", f"an outcome of {request_id}, which nobody asked for")
        for request_id in self._durable.doubled:
            self._violate("doubled", f"two outcomes of {request_id}")
        for seen in all_seen:
            self._check(seen)
        return self.violations

    def _violate(self, promise: str, what: str, seen: Seen | None = None) -> None:
        self.violations.append(Violation(promise=promise, what=what, seen=seen))

    def _check(self, seen: Seen) -> None:
        for reading in seen.readings:
            for fault in reading.faults:
                self._violate("gap", fault, seen)
        if seen.denied:
            self._violate("denied", f"{seen.denied} took the same for something else", seen)
        if seen.usurped:
            self._violate("usurped", "something else was accepted under its id", seen)
        if seen.refused and not _refusable(seen.asked):
            self._violate("refused", seen.refused, seen)
        durable = self._durable.outcomes.get(seen.asked.request_id)
        if durable is None:
            if seen.accepted:
                self._violate("lost", "accepted, and has no outcome", seen)
            return
        self._check_kind(seen, durable)
        self._check_content(seen, durable)
        self._check_told(seen, durable)
        for reading in seen.readings:
            self._check_reading(seen, reading, durable)
        if seen.heard is not None:
            self._check_heard(seen, seen.heard, durable)

    def _check_kind(self, seen: Seen, durable: Outcome) -> None:
        """Nothing ends otherwise than it was asked to."""
        asked = seen.asked
        allowed = {K.COMPLETED} if asked.poison is None else {K.FAILED}
        hung_up_only = asked.way is Way.HANG_UP and asked.keep
        if (seen.cancelled_s is not None and not hung_up_only) or self._gave_up(seen):
            allowed |= {K.CANCELLED}
        if asked.timeout_s is not None:
            allowed |= {K.EXPIRED}
            if _too_late(durable):
                allowed |= {K.REJECTED}
        if durable.kind not in allowed:
            self._violate("ended wrongly", brief(durable), seen)
        if durable.kind is K.EXPIRED and asked.timeout_s is not None and seen.known_s:
            early_s = seen.first_asked_s + asked.timeout_s - seen.known_s
            if early_s > NETWORK_S + ROUNDING * asked.timeout_s:
                self._violate("ended wrongly", f"expired {early_s:.3f} s before its deadline", seen)

    def _check_content(self, seen: Seen, durable: Outcome) -> None:
        """The durable outcome against the undisturbed run; a sampled one against itself."""
        asked = seen.asked
        if durable.usage.output_tokens != len(durable.token_ids):
            self._violate("usage", f"{brief(durable)}, but holds {len(durable.token_ids)} tokens", seen)
        oracle, kept = self._oracle, durable.token_ids
        expected = oracle.read(asked, kept) if asked.sampled else oracle.expect(asked)
        if durable.kind is K.COMPLETED:
            whole = (durable.token_ids, durable.text, durable.finish_reason)
            if whole != (expected.token_ids, expected.text, expected.finish_reason):
                self._violate("content", f"{brief(durable)}: {_difference(durable, expected)}", seen)
        elif expected.token_ids[: len(durable.token_ids)] != durable.token_ids:
            self._violate("content", f"{brief(durable)}: no beginning of the undisturbed answer", seen)
        elif not expected.text.startswith(durable.text):
            self._violate("content", f"{brief(durable)}: its text is no beginning of the answer's", seen)

    def _check_told(self, seen: Seen, durable: Outcome) -> None:
        """Whoever was told of the outcome was told the durable one."""
        if seen.result is not None and _without_usage(seen.result) != _without_usage(durable):
            self._violate("changed", f"was {brief(seen.result)}, is {brief(durable)}", seen)
        if any(kind is not durable.kind for kind in seen.told):
            self._violate("changed", f"a cancellation was told otherwise than {brief(durable)}", seen)

    def _check_reading(self, seen: Seen, reading: Reading, durable: Outcome) -> None:
        """A stream by gRPC against the durable outcome."""
        for call in reading.calls:
            if call.problem and not self._cut_off(call):
                self._violate("broken", f"{call.problem}, and {call.gateway} was not hit", seen)
        if self._redrawn(seen, reading):
            return
        ids, kept = tuple(reading.ids), durable.token_ids[reading.first :]
        text = _text_from(durable, reading.first)
        # What did not complete may hold less than was streamed: its outcome may be that of another than its router.
        longer = durable.kind is not K.COMPLETED and kept == ids[: len(kept)]
        if ids != kept[: len(ids)] and not longer:
            self._violate("content", "the stream and the outcome differ", seen)
        elif not longer and not text.startswith(reading.text):
            self._violate("content", "the texts of the stream and the outcome differ", seen)
        told = reading.finished
        if told is None:
            return
        if (told.kind, told.finish_reason) != (durable.kind, durable.finish_reason):
            self._violate("changed", f"the stream said {brief(told)}, the outcome is {brief(durable)}", seen)
        elif durable.kind is K.COMPLETED and (ids, reading.text) != (kept, text):
            self._violate("gap", f"{len(ids)} of {len(kept)} tokens streamed", seen)

    def _check_heard(self, seen: Seen, heard: Heard, durable: Outcome) -> None:
        """Events on NATS may be lost or come again, but never say otherwise than the outcome in the end."""
        told = heard.finished
        if told is not None and told.kind is not durable.kind:
            self._violate("changed", f"the event said {brief(told)}, the outcome is {brief(durable)}", seen)
        if not seen.asked.sampled:
            self._check_chunks(seen, heard, durable)
        if durable.kind is not K.COMPLETED or told is None or self._mixed(seen):
            return
        if not heard.whole:
            if not self._hits_on_the_way(seen):
                here = f"{heard.next_index} of {len(durable.token_ids)} tokens, {heard.gaps} gaps"
                self._violate("gap", f"{here} on NATS, and neither router nor broker was hit", seen)
        elif heard.ids != durable.token_ids:
            self._violate("content", f"the events and the outcome differ, {heard.replaced} replaced", seen)
        elif heard.text != durable.text:
            self._violate("content", "the texts of the events and the outcome differ", seen)

    def _check_chunks(self, seen: Seen, heard: Heard, durable: Outcome) -> None:
        if durable.kind is not K.COMPLETED:
            return
        for chunk in heard.chunks:
            if durable.token_ids[chunk.first_index : chunk.next_index] != chunk.token_ids:
                self._violate("content", f"the chunk at {chunk.first_index} is not the outcome's", seen)

    # What excuses.

    def _gave_up(self, seen: Seen) -> bool:
        """Whether a call ended such that its gateway had to take it for given up: its client had no patience, the
        gateway hung, or it never said that it had accepted. A gateway that hung when it was asked counts a call's
        deadline from its awakening, and so does not know that it has passed.
        """
        if seen.asked.keep:
            return False
        lost_patience = any("TimeoutError" in what for _, what in seen.notes)
        late = seen.asked.timeout_s is not None
        calls = [call for reading in seen.readings for call in reading.calls if call.problem or late]
        hung = any(self._cut_off(call, acts=(Act.HANG,)) for call in calls)
        return lost_patience or hung or not seen.accepted

    def _redrawn(self, seen: Seen, reading: Reading) -> bool:
        """Whether gateway and router were lost, and with them all who knew what was drawn."""
        lost = any(
            (call.problem and self._cut_off(call)) or self._forgot(seen, call) for call in reading.calls
        )
        return seen.asked.sampled and lost and self._hits_on_the_way(seen) > 0

    def _forgot(self, seen: Seen, call: Call) -> bool:
        """Whether a client had hung up, and the gateway that kept what it had had was lost before the end."""
        return not call.problem and any(
            struck.blow.victim == call.gateway
            and struck.blow.act in (Act.KILL, Act.DRAIN)
            and call.ended_s <= struck.back_s
            and struck.began_s <= (seen.ended_s or struck.began_s)
            for struck in self._blows
        )

    def _mixed(self, seen: Seen) -> bool:
        """Whether a router that stood still while another drew anew and was lost may have gone on with its own tokens:
        on NATS nobody tells them apart but by the outcome.
        """
        return seen.asked.sampled and self._hits_on_the_way(seen) > 1

    def _cut_off(self, call: Call, acts: Sequence[Act] = tuple(Act)) -> bool:
        """Whether the gateway was hit while it held the call: what became of it is then its client's to ask."""
        return any(
            struck.blow.victim == call.gateway
            and struck.blow.act in acts
            and struck.began_s <= call.ended_s
            and struck.back_s + DISTURBED_S >= call.began_s
            for struck in self._blows
        )

    def _hits_on_the_way(self, seen: Seen) -> int:
        """How often routers or the broker were hit, through which its events came and may have been lost."""
        return sum(
            kind_of(struck.blow.victim) in ("router", "nats")
            and struck.began_s <= (seen.ended_s or struck.began_s)
            and struck.back_s + DISTURBED_S >= seen.began_s
            for struck in self._blows
        )


def _too_late(durable: Outcome) -> bool:
    """Whether it was refused, before its first token, as that could not come by its deadline."""
    failure = durable.failure
    return failure is not None and failure.code == Overloaded.code and not durable.token_ids


def _refusable(asked: Asked) -> bool:
    """Whether it may be refused for good: it came too late."""
    return asked.timeout_s is not None or asked.oversize


def _text_from(durable: Outcome, first: int) -> str:
    """The text from a token on."""
    output = durable.output
    rest = None if output is None else output.since(first)
    return "" if rest is None else rest.text


def _without_usage(outcome: Outcome) -> tuple[object, ...]:
    return outcome.kind, outcome.finish_reason, outcome.token_ids, outcome.text


def _difference(found: Outcome, expected: Expected) -> str:
    if found.token_ids != expected.token_ids:
        pairs = zip(found.token_ids, expected.token_ids, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        where = f"token {at}" if at is not None else "the length"
        return f"{where} differs, {len(found.token_ids)} tokens instead of {len(expected.token_ids)}"
    if found.text != expected.text:
        return f"the text differs, {len(found.text)} characters instead of {len(expected.text)}"
    why = "no end" if expected.finish_reason is None else expected.finish_reason.value
    return f"it should have ended by {why}"
