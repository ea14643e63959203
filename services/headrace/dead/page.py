"""Some letters in one answer of the broker: a batched direct get, which the client library does not have.

The request names where to begin and how much to send; the messages come to an inbox of its own, and an empty message
with a status ends them. Source: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import nats.errors
from nats.aio.client import Client

from headrace.contract.errors import Unavailable
from headrace.contract.subjects import DEAD_STREAM
from headrace.dead.letter import Letter, read_letter

PAGE_LETTERS = 256
PAGE_BYTES = 8 * 1024 * 1024
"""With the one letter that may go over it, this is the memory that a command needs, however many letters there are."""
ANSWER_S = 10.0
"""How long the broker may take for the next letter: it answers within milliseconds, or it is in trouble."""

_API = f"$JS.API.DIRECT.GET.{DEAD_STREAM}"
_NUMBER = "Nats-Sequence"
_NOTHING_THERE = "404"
_NOBODY_ANSWERS = "503"
_END = "204"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Letters in the order of their numbers; `more` says that others follow the last of them."""

    letters: tuple[Letter, ...]
    more: bool


async def read_page(nc: Client, first: int, subject: str, most: int = PAGE_LETTERS) -> Page:
    """The letters of `subject` from number `first` on: at most `most`, or PAGE_BYTES and one. Raises Unavailable."""
    ask = {"seq": first, "next_by_subj": subject, "batch": most, "max_bytes": PAGE_BYTES}
    inbox = nc.new_inbox()
    letters: list[Letter] = []
    try:
        answers = await nc.subscribe(inbox)
        try:
            await nc.publish(_API, json.dumps(ask).encode(), reply=inbox)
            while True:
                message = await answers.next_msg(ANSWER_S)
                headers = message.headers or {}
                if _NUMBER not in headers:
                    return Page(letters=tuple(letters), more=_more(headers))
                stored_s = datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp()
                letters.append(read_letter(int(headers[_NUMBER]), stored_s, message.data))
        finally:
            await answers.unsubscribe()
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise Unavailable("dead letters", "NATS did not answer in time") from error


def _more(headers: Mapping[str, str]) -> bool:
    """What the end of an answer says of letters after it. Raises Unavailable where it is no end but a refusal."""
    match headers.get("Status"):
        case status if status == _END:
            return int(headers.get("Nats-Num-Pending", "0")) > 0
        case status if status == _NOTHING_THERE:
            return False
        case status if status == _NOBODY_ANSWERS:
            raise Unavailable("dead letters", f"nobody serves the stream {DEAD_STREAM} at the moment")
        case status:
            raise Unavailable("dead letters", f"NATS refuses to read them (status {status})")
