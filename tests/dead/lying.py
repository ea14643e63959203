"""Dead letters for tests: as values, laid into the stream, or made by a router whose worker always fails."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nats.aio.client import Client

from headrace.contract.ids import new_request_id
from headrace.contract.queue_wire import DeadLetter, encode_dead_letter
from headrace.contract.requests import Request
from headrace.contract.subjects import dead_subject_of
from headrace.contract.values import NO_TRACE, Failure
from headrace.contract.work import BatchEnded, EntryEnd, EntryProgress
from headrace.dead.letter import Letter
from headrace.dead.letters import DeadLetters
from tests.router.conftest import Mesh
from tests.router.peers import ScriptedWorker

QUEUE = "hr.v1.req.fake.normal.default"


def a_dead(**changes: Any) -> DeadLetter:
    """What a router writes of a raw producer's JSON request."""
    fields: dict[str, Any] = {
        "request_id": new_request_id(),
        "subject": QUEUE,
        "headers": {},
        "body": b'{"prompt": "hello"}',
        "failure": Failure(code="TOO_MANY_ATTEMPTS", message="given up after 5 attempts: out of memory"),
        "attempts": 5,
        "time_s": 1_795_000_000.0,
        "trace": NO_TRACE,
    }
    return DeadLetter(**{**fields, **changes})


def a_letter(number: int = 7, **changes: Any) -> Letter:
    """A letter as it is read from the stream."""
    return Letter(number=number, stored_s=1_795_000_001.0, dead=a_dead(**changes))


async def lay(nc: Client, *dead: DeadLetter) -> list[int]:
    """Puts letters into the stream; gives their numbers."""
    js = nc.jetstream()
    acks = [await js.publish_async(dead_subject_of(one.subject), encode_dead_letter(one)) for one in dead]
    return [(await ack).seq for ack in acks]


async def every(nc: Client) -> list[Letter]:
    """All letters that are there now, the oldest first."""
    letters = await DeadLetters.open(nc)
    return [letter async for page in letters.oldest_first() for letter in page]


async def the_letter(nc: Client) -> tuple[DeadLetters, Letter]:
    """The only letter."""
    (letter,) = await every(nc)
    return await DeadLetters.open(nc), letter


async def fail_for_good(hands: ScriptedWorker) -> str:
    """Fails whatever comes until a request has failed as often as a router tries; gives its id. The letter comes soon,
    then the outcome.
    """
    failed: Counter[str] = Counter()
    request_id = ""
    while failed[request_id] < 5:
        batch = await hands.batch()
        request_id = batch.entries[0].request_id
        failed[request_id] += 1
        end = EntryEnd(failure=Failure(code="ENGINE_FAILED", message="the engine failed: out of memory"))
        await hands.send(
            EntryProgress(assignment=batch.entries[0].assignment, end=end),
            ended=(BatchEnded(batch=batch.batch, lane=batch.lane),),
        )
    return request_id


async def give_up(mesh: Mesh, hands: ScriptedWorker, request: Request) -> None:
    """A request that becomes a dead letter; returns when it has its outcome, which comes after the letter."""
    await mesh.publish(request)
    await fail_for_good(hands)
    await mesh.result(request)


def numbers(pages: Sequence[Sequence[Letter]]) -> list[int]:
    """Of all letters of some pages."""
    return [letter.number for page in pages for letter in page]


def as_json(body: bytes) -> dict[str, Any]:
    """A JSON body."""
    document = json.loads(body)
    assert isinstance(document, dict)
    return document
