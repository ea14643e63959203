"""The content of a letter whose request was too large for a message, and lies in the object store."""

from __future__ import annotations

from dataclasses import replace

from nats.aio.client import Client

from headrace.contract.errors import HeadraceError, InvalidRequest, MalformedMessage
from headrace.contract.queue_wire import decode_request
from headrace.contract.requests import Request
from headrace.contract.subjects import HEADER_CONTENT_TYPE, parse_queue
from headrace.dead.letter import Letter
from headrace.dead.letters import DeadLetters
from headrace.dead.page import ANSWER_S
from headrace.runtime.oversize import Oversize
from headrace.runtime.payloads import Payloads

MAX_BYTES = 64 * 1024 * 1024
"""The largest object that a mesh can be set to take; its setting is not known here."""


class ContentMissing(HeadraceError):
    """The letter is there, and the object that its message refers to is not, or is none."""

    code = "CONTENT_MISSING"

    def __init__(self, problem: str) -> None:
        super().__init__(f"its content is not in the object store: {problem}")


async def whole(letters: DeadLetters, letter: Letter) -> Letter:
    """The letter as if its request were not too large for a message. Raises ContentMissing, Unavailable."""
    request = _request_of(letter)
    if request is None or request.payload is None:
        return letter
    dead = letter.dead
    content_type = dead.headers.get(HEADER_CONTENT_TYPE, "")
    try:
        body = await oversize_of(letters.nc).whole_message(
            dead.body, content_type, request.tenant, request.payload
        )
    except InvalidRequest as error:
        raise ContentMissing(str(error)) from error
    return replace(letter, dead=replace(dead, body=body))


async def drop_content(letters: DeadLetters, letter: Letter) -> None:
    """Removes the object that the letter's message refers to, if any: the letter is gone, so nobody asks for it."""
    if (request := _request_of(letter)) is not None:
        await oversize_of(letters.nc).drop_request(request)


async def drop(letters: DeadLetters, letter: Letter) -> None:
    """Throws a letter away, and what its message refers to. Raises Unavailable."""
    await letters.remove(letter.number)  # False: somebody else was faster
    await drop_content(letters, letter)


def oversize_of(nc: Client) -> Oversize:
    """The object store, for requests."""
    return Oversize(Payloads(nc, max_bytes=MAX_BYTES, answer_s=ANSWER_S), result_max_age_s=0.0)


def _request_of(letter: Letter) -> Request | None:
    """None where the message is none."""
    dead = letter.dead
    try:
        return decode_request(dead.body, dead.headers.get(HEADER_CONTENT_TYPE, ""), parse_queue(dead.subject))
    except (MalformedMessage, InvalidRequest):
        return None
