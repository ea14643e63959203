"""The request of a dead letter, asked again.

A request that was given up has its outcome, FAILED, and keeps it: an id has exactly one outcome for ever. So a replay
is a new request with an id of its own, made from the letter's number, and names in a header whose replay it is. A
letter has one such id, however often its replay is begun: the request is published first and the letter removed then,
so a crash between the two loses nothing, and the replay that is begun anew is

- swallowed by the broker within its duplicate window, as a message that it has;
- after that, answered by the router from the outcome of the first, where that has ended, and not computed again;
- else, where the first still waits or runs, a second message with one id: there is one outcome all the same, and a
  router that holds both makes the second a dead letter that says DUPLICATE_REQUEST.

A request that is too large for a message gets an object of its own with each try; the letter's goes after the letter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import nats.errors
from nats.js.api import Header
from nats.js.errors import APIError

from headrace.contract.errors import (
    HeadraceError,
    InvalidRequest,
    MalformedMessage,
    Overloaded,
    Unavailable,
)
from headrace.contract.ids import derived_request_id, is_request_id
from headrace.contract.payload_names import new_request_object
from headrace.contract.payload_wire import encode_reference
from headrace.contract.queue_wire import decode_request, renew_request
from headrace.contract.requests import Request
from headrace.contract.subjects import (
    DEAD_STREAM,
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    REQUESTS_STREAM,
    check_reply_subject,
    parse_queue,
)
from headrace.dead.letter import Letter
from headrace.dead.letters import DeadLetters
from headrace.dead.page import ANSWER_S
from headrace.dead.whole import MAX_BYTES, ContentMissing, drop, whole
from headrace.runtime.nats_refusal import Refusal, refusal_of
from headrace.runtime.nats_size import message_size
from headrace.runtime.payloads import Payloads

HEADER_REPLAY_OF = "Headrace-Replay-Of"
"""On a replayed request: the id of the request that was given up, or where its letter lay, if it had none."""


class CannotReplay(HeadraceError):
    """The letter stays where it is; `reason` says why its request cannot be asked again."""

    code = "CANNOT_REPLAY"

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"letter {number} cannot be replayed: {reason}")
        self.number = number
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The message that asks a letter's request again."""

    number: int
    request_id: str
    """The one that was given up; "" where none could be read."""
    new_request_id: str
    subject: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A letter that is gone, and the request that took its place."""

    number: int
    request_id: str
    new_request_id: str
    again: bool
    """An earlier replay had published it already, and was interrupted before it removed the letter."""


def plan_replay(letter: Letter, *, now_s: float, without_deadline: bool = False) -> Replay:
    """The message that asks a letter's request again: the same for each try.

    `without_deadline`: a deadline that has passed is left out. Raises CannotReplay where a router could not read the
    message, or would answer at once that it is too late.
    """
    dead = letter.dead
    if not dead.body:
        raise CannotReplay(letter.number, "it holds no body: the message was empty, or too large to be kept")
    if any(sign in text for pair in dead.headers.items() for text in pair for sign in "\r\n"):
        raise CannotReplay(letter.number, "its headers hold line breaks")
    content_type = dead.headers.get(HEADER_CONTENT_TYPE, "")
    try:
        request = decode_request(dead.body, content_type, parse_queue(dead.subject))
        if request.reply_to:
            check_reply_subject(request.reply_to, request.tenant)
    except (MalformedMessage, InvalidRequest) as error:
        raise CannotReplay(letter.number, str(error)) from None
    late_s = 0.0 if request.deadline_s is None else now_s - request.deadline_s
    if late_s > 0 and not without_deadline:
        raise CannotReplay(letter.number, f"its deadline passed {late_s:.0f} s ago")
    old_id = dead.request_id or _own_id(request, dead.headers)
    new_id = derived_request_id(DEAD_STREAM, letter.number, round(dead.time_s * 1000))
    # Nats-… headers were orders to the broker: to store the message only where this or that holds.
    headers = {name: value for name, value in dead.headers.items() if not name.lower().startswith("nats-")}
    headers[HEADER_REQUEST_ID] = new_id
    headers[HEADER_REPLAY_OF] = old_id or letter.place
    headers[Header.EXPECTED_STREAM.value] = REQUESTS_STREAM
    return Replay(
        number=letter.number,
        request_id=old_id,
        new_request_id=new_id,
        subject=dead.subject,
        headers=headers,
        body=renew_request(dead.body, content_type, new_id, without_deadline=late_s > 0),
    )


def _own_id(request: Request, headers: Mapping[str, str]) -> str:
    """The id that the producer gave; "" = none."""
    return next((id for id in (request.id, headers.get(HEADER_REQUEST_ID, "")) if is_request_id(id)), "")


async def replay(letters: DeadLetters, letter: Letter, *, without_deadline: bool = False) -> Replayed:
    """Asks a letter's request again and removes the letter. Raises CannotReplay, Unavailable; then the letter is there
    still, and it is safe to begin anew.
    """
    try:
        complete = await whole(letters, letter)
    except ContentMissing as error:
        raise CannotReplay(letter.number, str(error)) from error
    planned = plan_replay(complete, now_s=time.time(), without_deadline=without_deadline)
    again = await publish(letters, planned)
    await drop(letters, letter)
    return Replayed(
        number=letter.number,
        request_id=planned.request_id,
        new_request_id=planned.new_request_id,
        again=again,
    )


async def publish(letters: DeadLetters, planned: Replay) -> bool:
    """Puts the request into its queue; True where the broker has it already. Raises CannotReplay, Unavailable."""
    body, name = planned.body, ""
    payloads = Payloads(letters.nc, max_bytes=MAX_BYTES, answer_s=ANSWER_S)
    if message_size(body, planned.headers) > letters.nc.max_payload:  # it would cost the connection
        body, name = await _put(payloads, planned)
    js = letters.nc.jetstream(timeout=ANSWER_S)
    try:
        ack = await js.publish(planned.subject, body, headers=dict(planned.headers))
    except (APIError, nats.errors.Error, TimeoutError, OSError) as error:
        refusal = refusal_of(error)
        if name and refusal is not None:  # else the broker may have it after all
            await payloads.delete(name)
        match refusal:
            case Refusal.SUBJECT_FULL:
                reason = "its queue is full; try again when there is room"
            case Refusal.STREAM_FULL:
                reason = "the broker's store of waiting requests is full; try again when there is room"
            case Refusal.TOO_LARGE:
                reason = "the message is larger than the broker takes"
            case Refusal.NO_STREAM:
                raise Unavailable("queue", f"this NATS has no stream {REQUESTS_STREAM}") from error
            case None:
                problem = (
                    f"the broker did not confirm letter {planned.number}; it stays, and can be replayed again"
                )
                raise Unavailable("queue", problem) from error
        raise CannotReplay(planned.number, reason) from error
    if name and ack.duplicate:
        await payloads.delete(name)  # the message that the broker has refers to another one
    return bool(ack.duplicate)


async def _put(payloads: Payloads, planned: Replay) -> tuple[bytes, str]:
    """Puts a request into an object; gives the message that refers to it, and the object's name."""
    name = new_request_object(parse_queue(planned.subject).tenant, planned.new_request_id)
    try:
        reference = await payloads.put(name, planned.body)
    except (InvalidRequest, Overloaded) as error:
        raise CannotReplay(planned.number, str(error)) from error
    content_type = planned.headers.get(HEADER_CONTENT_TYPE, "")
    return encode_reference(planned.new_request_id, reference, content_type), name
