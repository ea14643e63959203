"""Holds what clients and durable outcomes saw against what Headrace promises. Looks at nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.contract.values import Outcome, OutcomeKind
from tests.chaos.asked import Way
from tests.chaos.blows import Struck
from tests.chaos.durable import Durable
from tests.chaos.oracle import Expected, Oracle
from tests.chaos.schedule import Act
from tests.chaos.seen import Seen, brief

DISTURBED_S = 1.0
"""So long after a gateway is back, a stream that it held may still break for it."""

K = OutcomeKind
_KINDS = {
    Way.STREAM: {K.COMPLETED},
    Way.SLOW: {K.COMPLETED},
    Way.CANCEL: {K.COMPLETED, K.CANCELLED},
    Way.HANG_UP: {K.COMPLETED, K.CANCELLED},
    Way.DEADLINE: {K.COMPLETED, K.EXPIRED},
    Way.SUBMIT: {K.COMPLETED},
    Way.NATS: {K.COMPLETED},
}
"""How a healthy request may end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was not kept. `seen`: to whom; None = to nobody in particular."""

    promise: str
    what: str
    seen: Seen | None = None

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}" + (f" [{self.seen.asked.name}]" if self.seen else "")


class Checker:
    """`violations` of one run."""

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
        for fault in seen.faults:
            self._violate("gap", fault, seen)
        durable = self._durable.outcomes.get(seen.asked.request_id)
        if durable is None:
            if seen.accepted:
                self._violate("lost", "accepted, and has no outcome", seen)
            return
        expected = self._oracle.expect(seen.asked)
        self._check_durable(seen, durable, expected)
        if seen.result is not None and _without_usage(seen.result) != _without_usage(durable):
            self._violate("changed", f"was {brief(seen.result)}, is {brief(durable)}", seen)
        if any(kind is not durable.kind for kind in seen.told):
            self._violate("changed", f"a cancellation was told otherwise than {brief(durable)}", seen)
        if seen.asked.way is Way.NATS:
            self._check_events(seen, durable)
        else:
            self._check_stream(seen, durable)

    def _check_durable(self, seen: Seen, durable: Outcome, expected: Expected) -> None:
        asked = seen.asked
        allowed = {OutcomeKind.FAILED} if asked.poison else _KINDS[asked.way]
        if not seen.accepted or self._gave_up(seen):
            allowed = allowed | {OutcomeKind.CANCELLED}
        if durable.kind not in allowed:
            self._violate("ended wrongly", brief(durable), seen)
        if durable.usage.output_tokens != len(durable.token_ids):
            self._violate("usage", f"{brief(durable)}, but holds {len(durable.token_ids)} tokens", seen)
        if asked.sampled:
            return
        whole = (durable.token_ids, durable.text, durable.finish_reason)
        if durable.kind is OutcomeKind.COMPLETED:
            if whole != (expected.token_ids, expected.text, expected.finish_reason):
                self._violate("content", f"{brief(durable)}: {_difference(durable, expected)}", seen)
        elif expected.token_ids[: len(durable.token_ids)] != durable.token_ids:
            self._violate("content", f"{brief(durable)}: no beginning of the undisturbed answer", seen)
        elif not expected.text.startswith(durable.text):
            self._violate("content", f"{brief(durable)}: its text is no beginning of the answer's", seen)

    def _check_stream(self, seen: Seen, durable: Outcome) -> None:
        """A gRPC stream against the durable outcome."""
        ids = tuple(seen.ids)
        if ids != durable.token_ids[: len(ids)] and durable.token_ids != ids[: len(durable.token_ids)]:
            self._violate("content", "the stream and the outcome differ", seen)
        if seen.broken and not self._cut_off(seen):
            self._violate("broken", f"{seen.broken}, and {seen.gateway} was not hit", seen)
        if seen.finished is None:
            return
        told, kept = seen.finished, durable
        if (told.kind, told.finish_reason) != (kept.kind, kept.finish_reason):
            self._violate("changed", f"the stream said {brief(told)}, the outcome is {brief(kept)}", seen)
        elif kept.kind is OutcomeKind.COMPLETED and (ids, seen.text) != (kept.token_ids, kept.text):
            self._violate("gap", f"{len(ids)} of {len(kept.token_ids)} tokens streamed", seen)

    def _check_events(self, seen: Seen, durable: Outcome) -> None:
        """Events on NATS may be lost or come again, but never say otherwise than the outcome."""
        if durable.kind is not OutcomeKind.COMPLETED:
            return
        for chunk in seen.chunks:
            if durable.token_ids[chunk.first_index : chunk.next_index] != chunk.token_ids:
                self._violate("content", f"the chunk at {chunk.first_index} is not the outcome's", seen)
        if seen.finished is not None and seen.finished.kind is not durable.kind:
            self._violate(
                "changed", f"the event said {brief(seen.finished)}, the outcome is {brief(durable)}", seen
            )

    def _gave_up(self, seen: Seen) -> bool:
        """Whether the client ended a call itself, or a gateway that hung had to think so: that cancels."""
        lost_patience = any("TimeoutError" in what for _, what in seen.notes)
        return lost_patience or (bool(seen.broken) and self._cut_off(seen, acts=(Act.HANG,)))

    def _cut_off(self, seen: Seen, acts: Sequence[Act] = tuple(Act)) -> bool:
        """Whether a gateway was hit while it held the call: what became of the stream is then its client's to ask."""
        return any(
            struck.blow.victim.startswith("gateway")
            and struck.blow.act in acts
            and f"asks {struck.blow.victim}" in {what for _, what in seen.notes}
            and struck.began_s <= (seen.ended_s or struck.began_s)
            and struck.back_s + DISTURBED_S >= seen.began_s
            for struck in self._blows
        )


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
    return f"it should have ended by {expected.finish_reason.value}"
