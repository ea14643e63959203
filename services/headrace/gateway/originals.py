"""A request id that is used again: by the same request, sent twice, or by another one."""

from __future__ import annotations

from dataclasses import dataclass

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from headrace.contract import subjects
from headrace.contract.errors import DuplicateRequest, HeadraceError, Unavailable
from headrace.contract.fingerprint import fingerprint
from headrace.contract.queue_wire import decode_request
from headrace.contract.requests import Request
from headrace.contract.values import Outcome, OutcomeKind
from headrace.gateway.broker import unanswered
from headrace.gateway.results import Result, Results
from headrace.runtime.oversize import Oversize

_STORED_S = 1.0
"""A request leaves its queue only after its outcome is stored; a replica of the store may know this much later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The broker has the request. `again`: from an earlier call, with `outcome` where it has ended already.

    `kept`: that call wanted it to go on though nobody waits for it.
    """

    again: bool = False
    kept: bool = False
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Original:
    fingerprint: str
    kept: bool


class Originals:
    """Finds what an id was used for, and raises DuplicateRequest where that was another request."""

    def __init__(self, js: JetStreamContext, results: Results, oversize: Oversize) -> None:
        self._js = js
        self._results = results
        self._oversize = oversize

    async def ended(self, request: Request) -> Receipt | None:
        """What is known of an id that has an outcome; None where it has none."""
        result = await self._results.look(request.tenant, request.id)
        return None if result is None else _same(request, result)

    async def queued(self, request: Request, sequence: int) -> Receipt:
        """What is known of an id under which the broker took the message `sequence` before."""
        try:
            message = await self._js.get_msg(subjects.REQUESTS_STREAM, sequence)
        except NotFoundError:
            # It was answered since. Where there is no outcome either, it was no request, or is long over.
            result = await self._results.wait_for(request.tenant, request.id, _STORED_S)
            if result is None:
                raise DuplicateRequest(request.id) from None
            return _same(request, result)
        except (APIError, nats.errors.Error, TimeoutError) as error:
            raise unanswered(error) from error
        original = await self._read(message)
        if original is None or original.fingerprint != fingerprint(request):
            raise DuplicateRequest(request.id)
        return Receipt(again=True, kept=original.kept)

    async def _read(self, message: RawStreamMsg) -> _Original | None:
        """What a queued message asks for; None where it is no request."""
        headers, body = message.headers or {}, message.data or b""
        told = headers.get(subjects.HEADER_FINGERPRINT)
        try:
            queue = subjects.parse_queue(message.subject or "")
            content_type = headers.get(subjects.HEADER_CONTENT_TYPE, "")
            request = decode_request(body, content_type, queue)
            if not told:
                whole = await self._oversize.whole_request(body, content_type, queue, request)
                told = fingerprint(whole)
        except Unavailable:
            raise
        except HeadraceError:
            return None
        # Only a gateway whose client waits names itself.
        return _Original(fingerprint=told, kept=not request.gateway or subjects.HEADER_KEEP in headers)


def _same(request: Request, result: Result) -> Receipt:
    """Raises DuplicateRequest where the result is that of another request."""
    # Who cancels a request that nobody holds knows its id alone: that outcome is the id's, whatever was asked.
    unknown = not result.fingerprint and result.outcome.kind is OutcomeKind.CANCELLED
    if not unknown and result.fingerprint != fingerprint(request):
        raise DuplicateRequest(request.id)
    return Receipt(again=True, outcome=result.outcome)
