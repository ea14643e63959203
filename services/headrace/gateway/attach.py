"""A client that comes back to a request, or looks in on one: from the call to its last response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from headrace.contract.errors import DuplicateRequest, InvalidRequest, NotFound, Unavailable
from headrace.contract.inference_wire import Attachment, attach_response, decode_attach
from headrace.contract.values import Accepted, QueuePosition
from headrace.gateway.audience import Stream
from headrace.gateway.following import Following, Look
from headrace.gateway.reading import Reading
from headrace.gateway.streams import Streams
from headrace.gateway.tracing import describe_attachment

DEFAULT_WAIT_S = 30.0
MAX_WAIT_S = 300.0
"""Of the wait for a request that nobody knows: as the proto says."""

ANSWER_S = 0.5
"""How long a router that has the request may take to answer, however short the wait."""

NOWHERE = QueuePosition(ahead=0, estimated_wait_s=None)
"""The place of a request that runs or has ended, or of whose place nobody has told."""


class Attaching:
    """Answers Attach calls."""

    def __init__(
        self, *, streams: Streams, following: Following, reading: Reading, draining: Callable[[], bool]
    ) -> None:
        """`draining` says whether this gateway takes no more."""
        self._streams = streams
        self._following = following
        self._reading = reading
        self._draining = draining

    async def stream(self, message: Any) -> AsyncGenerator[Any, None]:
        """The responses to an AttachRequest: accepted when the request is known, then what it makes, then finished.

        Raises NotFound where no router has the request within the wait, and it has no outcome. The end of the call ends
        nothing else.
        """
        wanted = decode_attach(message)
        wait_s = _wait_s(wanted)
        if self._draining():
            raise Unavailable("gateway", "it is stopping; attach at another")
        describe_attachment(wanted)
        try:
            with self._streams.open(wanted.tenant, wanted.request_id, wanted.from_index) as stream:
                async with self._following.follow(stream) as look:
                    await _known(stream, look, wait_s)
                    if stream.audience.known:
                        place = stream.relay.take_position() or NOWHERE
                        yield attach_response(Accepted(request_id=wanted.request_id, position=place))
                    async for event in self._reading.events(stream):
                        yield attach_response(event)
        except DuplicateRequest:  # the id is another tenant's
            raise _not_found(wanted.request_id) from None


def _wait_s(wanted: Attachment) -> float:
    if wanted.wait_s is None:
        return DEFAULT_WAIT_S
    if not 0 <= wanted.wait_s <= MAX_WAIT_S:
        raise InvalidRequest("wait", f"must lie in 0 … {MAX_WAIT_S:g} s (was {wanted.wait_s:g} s)")
    return wanted.wait_s


async def _known(stream: Stream, look: Look, wait_s: float) -> None:
    """Waits until the request is known, or this gateway ends the stream. Raises NotFound, or Unavailable where the
    broker, which might know it, was away all the time.
    """
    if stream.audience.known:
        return
    try:
        async with asyncio.timeout(max(wait_s, ANSWER_S)):
            await stream.audience.served.wait()
    except TimeoutError:
        if not look.done:
            raise Unavailable("NATS", "whether the request has an outcome is not known; try again") from None
        raise _not_found(stream.request_id) from None


def _not_found(request_id: str) -> NotFound:
    return NotFound("request that a router has taken up or that has an outcome, with the id", request_id)
