"""Messages of a stream, some in one answer of the broker: a batched direct get, which the client library does not have.

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

_NUMBER = "Nats-Sequence"
_NOTHING_THERE = "404"
_NOBODY_ANSWERS = "503"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message as it lies in its stream."""

    number: int
    """Its sequence in the stream."""
    stored_s: float
    """Unix time at which the broker took it."""
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Messages in the order of their numbers; `more` says that others follow the last of them."""

    messages: tuple[StoredMessage, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSize:
    """How much comes in one answer: at most so many messages, or so many bytes and one message."""

    messages: int
    bytes: int


async def read_stored(
    nc: Client, stream: str, subject: str, *, first: int, most: PageSize, answer_s: float, what: str
) -> Page:
    """The messages of `subject` in a stream that allows direct gets, from number `first` on.

    Raises Unavailable(what) where the broker takes longer than `answer_s` for the next one, or refuses.
    """
    ask = {"seq": first, "next_by_subj": subject, "batch": most.messages, "max_bytes": most.bytes}
    inbox = nc.new_inbox()
    messages: list[StoredMessage] = []
    try:
        answers = await nc.subscribe(inbox)
        try:
            await nc.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(ask).encode(), reply=inbox)
            while True:
                message = await answers.next_msg(answer_s)
                headers = message.headers or {}
                if _NUMBER not in headers:
                    return Page(messages=tuple(messages), more=_more(headers, stream, what))
                stored_s = datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp()
                messages.append(
                    StoredMessage(number=int(headers[_NUMBER]), stored_s=stored_s, data=message.data)
                )
        finally:
            await answers.unsubscribe()
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise Unavailable(what, "NATS did not answer in time") from error


def _more(headers: Mapping[str, str], stream: str, what: str) -> bool:
    """What the end of an answer says of messages after it. Raises Unavailable where it is no end but a refusal."""
    match headers.get("Status"):
        case "204":
            return int(headers.get("Nats-Num-Pending", "0")) > 0
        case status if status == _NOTHING_THERE:
            return False
        case status if status == _NOBODY_ANSWERS:
            raise Unavailable(what, f"nobody serves the stream {stream} at the moment")
        case status:
            raise Unavailable(what, f"NATS refuses to read them (status {status})")
