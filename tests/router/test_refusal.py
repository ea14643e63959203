"""A request that is ended before any compute here."""

from __future__ import annotations

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.errors import DeadlinePassed, HeadraceError, InvalidRequest, TooManyAttempts
from headrace.contract.requests import Request
from headrace.contract.values import OutcomeKind, Priority, TokenChunk
from headrace.router.ledger import Record
from headrace.router.outcomes import refusal


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DeadlinePassed(0.5), OutcomeKind.EXPIRED),
        (TooManyAttempts(5, "lost"), OutcomeKind.FAILED),
        (InvalidRequest("prompt", "is too long"), OutcomeKind.REJECTED),
    ],
)
def test_what_a_former_router_made_stays(error: HeadraceError, kind: OutcomeKind) -> None:
    """Its consumer has it, and it is counted as made."""
    record = Record(
        request=Request(id="r", tenant="t", model="m", priority=Priority.NORMAL, prompt="p"),
        message=Msg(Client()),
        chosen_id=True,
        sequence=1,
        accepted_s=0.0,
        as_json=False,
    )
    made = TokenChunk(first_index=0, token_ids=(5, 6), text="ab", text_lengths=(1, 1))
    record.go_on_from(made)
    outcome = refusal(record, error)
    assert (outcome.kind, outcome.output, outcome.usage.output_tokens) == (kind, made, 2)
    assert outcome.failure is not None
    assert outcome.failure.code == error.code
