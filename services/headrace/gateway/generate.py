"""A request with a client that waits for its tokens: from the call to its last response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from headrace.contract.errors import DeadlinePassed, Unavailable
from headrace.contract.inference_wire import (
    accepted_response,
    finished_response,
    queued_response,
    tokens_response,
)
from headrace.contract.requests import Request
from headrace.contract.values import Outcome, QueuePosition, TokenChunk
from headrace.gateway.admission import Admission, Admitted
from headrace.gateway.cancel import Cancels
from headrace.gateway.catalogue import Catalogue
from headrace.gateway.publish import Publisher
from headrace.gateway.relay import Relay
from headrace.gateway.results import Results
from headrace.gateway.streams import Stream, Streams
from headrace.gateway.tracing import describe_outcome, describe_position, describe_request

_NETWORK_SLACK_S = 0.05
_ROUNDING = 0.011
"""A client ends its call at its own deadline, which comes before the one that we were told: by the way through the
network, and by 1 % of the whole time, as gRPC sends three digits of it, rounded up.
"""


class Generation:
    """Answers Generate calls."""

    def __init__(
        self,
        *,
        gateway_id: str,
        admission: Admission,
        streams: Streams,
        publisher: Publisher,
        catalogue: Catalogue,
        results: Results,
        cancels: Cancels,
        expiry_grace_s: float,
    ) -> None:
        """`expiry_grace_s` is how long after a deadline the router's word of it is waited for."""
        self._gateway_id = gateway_id
        self._admission = admission
        self._streams = streams
        self._publisher = publisher
        self._catalogue = catalogue
        self._results = results
        self._cancels = cancels
        self._expiry_grace_s = expiry_grace_s

    async def stream(self, message: Any, remaining_s: float | None) -> AsyncGenerator[Any, None]:
        """The responses to a GenerateRequest: accepted, then places and tokens, then finished.

        `remaining_s` is what is left of the call's deadline. Raises an error of the tree for whatever is refused.
        """
        admitted = await self._admission.admit(message, remaining_s)
        request = replace(admitted.request, gateway=self._gateway_id)
        describe_request(request, stream=True)
        # Registered before it is published: a fast router's first tokens must find it.
        with self._streams.open(request.tenant, request.id) as stream:
            await self._publish(Admitted(request=request, chosen=admitted.chosen))
            with self._given_up_early(request, stream):
                position = self._catalogue.position(request.model, request.priority)
                describe_position(position)
                yield accepted_response(request.id, position)
                with _failing_at_deadline(stream.relay, request, self._expiry_grace_s):
                    async for response in self._relayed(stream):
                        yield response

    async def _publish(self, admitted: Admitted) -> None:
        """Publishes. A call that ends meanwhile gives the request up only once it is known that the broker took it from
        here: else it may be that of a client who asked another gateway, with the same id, when this one was slow.
        """
        request = admitted.request
        began_s = time.time()
        publishing = asyncio.ensure_future(self._publisher.publish(admitted))
        try:
            await asyncio.shield(publishing)
        except asyncio.CancelledError:
            late = request.deadline_s is not None and _is_late(began_s, request.deadline_s)
            self._cancels.give_up_if(publishing, request.tenant, request.id, expired=late)
            raise

    async def _relayed(self, stream: Stream) -> AsyncGenerator[Any, None]:
        while True:
            event = await stream.relay.read()
            match event:
                case TokenChunk():
                    yield tokens_response(event)
                case QueuePosition():
                    yield queued_response(event)
                case Outcome():
                    if stream.relay.lacks(event):
                        yield tokens_response(await self._rest_of(stream))
                    describe_outcome(event)
                    yield finished_response(event)
                    return

    async def _rest_of(self, stream: Stream) -> TokenChunk:
        """The tokens that got lost on their way here, from the durable outcome."""
        whole = await self._results.find(stream.tenant, stream.request_id)
        rest = None if whole is None else stream.relay.rest_of(whole)
        if rest is None:
            raise Unavailable(
                "stream",
                f"tokens from index {stream.relay.next_index} on were lost; GetResult has all of {stream.request_id}",
            )
        return rest

    @contextmanager
    def _given_up_early(self, request: Request, stream: Stream) -> Iterator[None]:
        """Ends the request at the router where the call ends before it: on cancellation, disconnection or deadline.

        Not where this gateway cut the stream: its client still wants the outcome, and fetches it elsewhere.
        """
        began_s = time.time()
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit, DeadlinePassed):
            if stream.cut:
                raise
            late = request.deadline_s is not None and _is_late(began_s, request.deadline_s)
            self._cancels.give_up(request.tenant, request.id, expired=late)
            raise


def _is_late(began_s: float, deadline_s: float) -> bool:
    """Whether a call that ends now ends because of its deadline."""
    slack_s = _NETWORK_SLACK_S + _ROUNDING * (deadline_s - began_s)
    return time.time() >= deadline_s - slack_s


@contextmanager
def _failing_at_deadline(relay: Relay, request: Request, grace_s: float) -> Iterator[None]:
    """Ends the stream with DeadlinePassed where nobody has done so by `grace_s` after the deadline.

    The router that holds the request ends it in time, with its usage; this is for when none does.
    """
    if request.deadline_s is None:
        yield
        return
    left_s = request.deadline_s + grace_s - time.time()
    timer = asyncio.get_running_loop().call_later(left_s, relay.fail, DeadlinePassed(grace_s))
    try:
        yield
    finally:
        timer.cancel()
