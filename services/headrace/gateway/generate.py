"""A request with a client that waits for its tokens: from the call to its last response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from headrace.contract.errors import DeadlinePassed
from headrace.contract.fingerprint import fingerprint
from headrace.contract.ids import may_be_used_again
from headrace.contract.requests import Request
from headrace.contract.values import Accepted, OutcomeKind
from headrace.gateway.admission import Admission, Admitted
from headrace.gateway.audience import Stream
from headrace.gateway.cancel import Cancels
from headrace.gateway.catalogue import Catalogue
from headrace.gateway.following import Following
from headrace.gateway.originals import Receipt
from headrace.gateway.publish import Publisher
from headrace.gateway.reading import Reading
from headrace.gateway.relay import Event, Relay
from headrace.gateway.streams import Streams
from headrace.gateway.tracing import describe_position, describe_request
from headrace.runtime.grpc_deadlines import deadline_has_come


class Generation:
    """Answers Generate calls, and those of the other tasks: what they ask for is the models' affair."""

    def __init__(
        self,
        *,
        gateway_id: str,
        admission: Admission,
        streams: Streams,
        publisher: Publisher,
        catalogue: Catalogue,
        following: Following,
        reading: Reading,
        cancels: Cancels,
        expiry_grace_s: float,
        duplicate_window_s: float,
    ) -> None:
        """`expiry_grace_s` is how long after a deadline the router's word of it is waited for, `duplicate_window_s` how
        far back the broker knows ids.
        """
        self._gateway_id = gateway_id
        self._admission = admission
        self._streams = streams
        self._publisher = publisher
        self._catalogue = catalogue
        self._following = following
        self._reading = reading
        self._cancels = cancels
        self._expiry_grace_s = expiry_grace_s
        self._duplicate_window_s = duplicate_window_s

    async def stream(
        self, decoded: Request, remaining_s: float | None
    ) -> AsyncGenerator[Accepted | Event, None]:
        """The events of a request that a client sent: accepted, then places and tokens, then its outcome.

        `remaining_s` is what is left of the call's deadline. A request that an earlier call has published is followed,
        from its first token on. Raises an error of the tree for whatever is refused.
        """
        began_s = time.time()
        # A request that is to be kept has no deadline but its own: it outlives the call.
        admitted = await self._admission.admit(decoded, None if decoded.keep else remaining_s)
        request = replace(admitted.request, gateway=self._gateway_id)
        describe_request(request, stream=True)
        # Registered before it is published: a fast router's first tokens must find it.
        with self._streams.open(request.tenant, request.id) as stream:
            stream.audience.fingerprint = fingerprint(request)
            admitted = Admitted(request=request, chosen=admitted.chosen)
            receipt = await self._publish(admitted, stream, began_s)
            stream.audience.known = True
            stream.audience.kept |= request.keep or receipt.kept
            with self._given_up_early(request, stream, began_s):
                async with self._followed(stream, receipt):
                    position = self._catalogue.position(request.model, request.priority)
                    describe_position(position)
                    model = self._catalogue.answering(request.model, request.id)
                    yield Accepted(request_id=request.id, position=position, model=model)
                    with _failing_at_deadline(stream.relay, request, self._expiry_grace_s):
                        async for event in self._reading.events(stream):
                            yield event

    async def _publish(self, admitted: Admitted, stream: Stream, began_s: float) -> Receipt:
        """Publishes. A call that ends meanwhile gives the request up only once it is known that the broker took it from
        here: else it may be that of a client who asked another gateway, with the same id, when this one was slow.
        """
        request = admitted.request
        publishing = asyncio.ensure_future(self._publisher.publish(admitted))
        try:
            return await asyncio.shield(publishing)
        except asyncio.CancelledError:
            if not (request.keep or stream.cut):
                late = _is_late(began_s, request.deadline_s)
                self._cancels.give_up_if(publishing, stream.audience, expired=late)
            raise

    @asynccontextmanager
    async def _followed(self, stream: Stream, receipt: Receipt) -> AsyncIterator[None]:
        """Brings the stream what an earlier call's request has made, and makes."""
        if receipt.outcome is not None:
            stream.audience.end(receipt.outcome)
            yield
        elif receipt.again or may_be_used_again(stream.request_id, time.time(), self._duplicate_window_s):
            async with self._following.follow(stream):
                yield
        else:
            yield

    @contextmanager
    def _given_up_early(self, request: Request, stream: Stream, began_s: float) -> Iterator[None]:
        """Has the request ended where the call ends before it, on cancellation, disconnection or deadline, and no other
        client waits for it here.

        Not where this gateway cut the stream: its client goes on elsewhere.
        """
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit, DeadlinePassed):
            if not stream.cut:
                late = _is_late(began_s, request.deadline_s)
                stream.audience.forsaken = OutcomeKind.EXPIRED if late else OutcomeKind.CANCELLED
            raise


def _is_late(began_s: float, deadline_s: float | None) -> bool:
    """Whether a call that began then and ends now ends because of its deadline."""
    now_s = time.time()
    return deadline_has_come(None if deadline_s is None else deadline_s - now_s, now_s - began_s)


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
