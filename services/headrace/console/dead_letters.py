"""Dead letters for the page: the newest without what was asked, and the replay of one."""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client

from headrace.contract.errors import InvalidRequest, Unavailable
from headrace.contract.subjects import is_queue, parse_queue
from headrace.dead.letter import Letter, Wanted
from headrace.dead.letters import DeadLetters
from headrace.dead.replay import replay

LISTED = 100
"""Letters in one list. `headrace dead list` has them all."""


async def list_letters(
    nc: Client, *, code: str = "", model: str = "", tenant: str = ""
) -> list[dict[str, Any]]:
    """The newest first. Raises InvalidRequest, Unavailable."""
    letters = await _open(nc)
    found: list[dict[str, Any]] = []
    async for page in letters.newest_first(Wanted(model=model, tenant=tenant, code=code)):
        found += [_fields(letter) for letter in page[: LISTED - len(found)]]
        if len(found) >= LISTED:
            break
    return found


async def replay_letter(nc: Client, number: int) -> dict[str, Any]:
    """Asks its request again. Raises NotFound, CannotReplay, Unavailable."""
    letters = await _open(nc)
    done = await replay(letters, await letters.get(number))
    return {
        "number": done.number,
        "request_id": done.request_id,
        "new_request_id": done.new_request_id,
        "again": done.again,
    }


def letter_number(text: str) -> int:
    """Raises InvalidRequest."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise InvalidRequest("number", "must be the number of a dead letter")
    return int(text)


async def _open(nc: Client) -> DeadLetters:
    if not nc.is_connected:
        raise Unavailable("dead letters", "the broker is away")
    return await DeadLetters.open(nc)


def _fields(letter: Letter) -> dict[str, Any]:
    """Without headers and body."""
    dead = letter.dead
    queue = parse_queue(dead.subject) if is_queue(dead.subject) else None
    return {
        "number": letter.number,
        "at": round(letter.stored_s * 1000),
        "request_id": dead.request_id,
        "model": queue.model if queue else "",
        "class": int(queue.priority) if queue else None,
        "tenant": queue.tenant if queue else "",
        "subject": dead.subject[:200],
        "code": dead.failure.code,
        "message": dead.failure.message[:1000],
        "attempts": dead.attempts,
        "trace_id": letter.trace_id,
        "replayable": bool(dead.body) and queue is not None,
    }
