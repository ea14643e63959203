"""Some letters in one answer of the broker."""

from __future__ import annotations

from dataclasses import dataclass

from nats.aio.client import Client

from headrace.contract.subjects import DEAD_STREAM
from headrace.dead.letter import Letter, read_letter
from headrace.runtime.stored_messages import PageSize, read_stored

PAGE_LETTERS = 256
PAGE_BYTES = 8 * 1024 * 1024
"""With the one letter that may go over it, this is the memory that a command needs, however many letters there are."""
ANSWER_S = 10.0
"""How long the broker may take for the next letter: it answers within milliseconds, or it is in trouble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Letters in the order of their numbers; `more` says that others follow the last of them."""

    letters: tuple[Letter, ...]
    more: bool


async def read_page(nc: Client, first: int, subject: str, most: int = PAGE_LETTERS) -> Page:
    """The letters of `subject` from number `first` on: at most `most`, or PAGE_BYTES and one. Raises Unavailable."""
    size = PageSize(messages=most, bytes=PAGE_BYTES)
    page = await read_stored(
        nc, DEAD_STREAM, subject, first=first, most=size, answer_s=ANSWER_S, what="dead letters"
    )
    letters = tuple(read_letter(one.number, one.stored_s, one.data) for one in page.messages)
    return Page(letters=letters, more=page.more)
