"""Records of requests, for tests of what works on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.values import TokenChunk
from headrace.router.ledger import Hold, Record
from tests.router.conftest import a_request

QUEUE = "hr.v1.req.fake.normal.default"


def a_record(client: Client | None = None, *, delivered: int = 1, made: str = "", **changes: Any) -> Record:
    """A record of a request that was delivered so often, with the output `made`, one token per character."""
    reply = f"$JS.ACK.HEADRACE_REQUESTS.c.{delivered}.7.7.1700000000000000000.0"
    request = a_request(**changes)
    record = Record(
        request=replace(request, reply_to=request.reply_to or f"hr.v1.tok.default.{request.id}"),
        message=Msg(_client=client or Client(), subject=QUEUE, reply=reply, data=b""),
        chosen_id=True,
        sequence=7,
        accepted_s=1000.0,
        as_json=True,
        hold=Hold.OWNED,
        max_tokens=20,
    )
    if made:
        record.keep(letters(0, made))
    return record


def letters(first: int, text: str) -> TokenChunk:
    """A token per character."""
    return TokenChunk(
        first_index=first, token_ids=tuple(map(ord, text)), text=text, text_lengths=(1,) * len(text)
    )
