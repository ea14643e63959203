"""Puts a request into its queue. The broker's acknowledgement is the promise that it will be answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import APIError
from opentelemetry.trace import Tracer

from headrace.contract import subjects
from headrace.contract.errors import HeadraceError, InvalidRequest, Overloaded, Unavailable
from headrace.contract.fingerprint import fingerprint
from headrace.contract.queue_wire import encode_request
from headrace.contract.requests import Request, content_field
from headrace.contract.subjects import Queue
from headrace.gateway.admission import Admitted
from headrace.gateway.broker import require_connection, unanswered
from headrace.gateway.catalogue import Catalogue
from headrace.gateway.metrics import GatewayMetrics
from headrace.gateway.originals import Originals, Receipt
from headrace.gateway.tracing import look_span, send_span
from headrace.runtime.backoff import Backoff
from headrace.runtime.nats_refusal import Refusal, may_lack_stream, refusal_of
from headrace.runtime.nats_size import message_size
from headrace.runtime.nats_state import NatsHealth
from headrace.runtime.oversize import Oversize
from headrace.runtime.propagation import inject

NO_STREAM_RETRY_S = (0.1, 1.0)
"""The first and the longest wait before a request that no stream took is sent again."""
TROUBLE_KEPT_S = 30.0
"""How long the broker counts as troubled after it refused a request for lack of room: only another request would tell
that there is room again."""
_PART = "requests"


class Publisher:
    """Publishes requests, one acknowledgement each. Holds nothing itself: calls wait for the broker, up to a limit."""

    def __init__(
        self,
        nc: Client,
        js: JetStreamContext,
        *,
        originals: Originals,
        catalogue: Catalogue,
        health: NatsHealth,
        missed: Callable[[], None],
        oversize: Oversize,
        tracer: Tracer,
        metrics: GatewayMetrics,
        timeout_s: float,
    ) -> None:
        """`missed` is called where no stream takes a request."""
        self._nc = nc
        self._js = js
        self._originals = originals
        self._catalogue = catalogue
        self._health = health
        self._missed = missed
        self._oversize = oversize
        self._tracer = tracer
        self._metrics = metrics
        self._timeout_s = timeout_s

    async def publish(self, admitted: Admitted) -> Receipt:
        """Returns when the broker has the request, from this call or from an earlier one that asked for the same.

        Raises DuplicateRequest where the id is another request's, InvalidRequest where it is too large for the object
        store too, Overloaded where its queue is full, Unavailable where the broker is away.
        """
        request = admitted.request
        require_connection(self._nc)
        if admitted.chosen:
            with look_span(self._tracer, request):
                ended = await self._originals.ended(request)
            if ended is not None:
                return ended
        queue = Queue(model=request.model, priority=request.priority, tenant=request.tenant)
        body = encode_request(request)
        with send_span(self._tracer, request, queue, body) as trace:
            headers = {
                subjects.HEADER_REQUEST_ID: request.id,
                subjects.HEADER_CONTENT_TYPE: subjects.CONTENT_TYPE_PROTOBUF,
                # A payload that lies elsewhere need not be read to know what was asked for.
                subjects.HEADER_FINGERPRINT: fingerprint(request),
                Header.EXPECTED_STREAM.value: subjects.REQUESTS_STREAM,
            }
            if request.keep:
                headers[subjects.HEADER_KEEP] = "true"
            inject(trace, headers)
            if message_size(body, headers) > self._nc.max_payload:
                # The server would cut the connection, and all requests with it, for this one.
                request = await self._oversize.put_request(request)
                body = encode_request(request)
            with self._metrics.publishing(trace):
                earlier = await self._send(request, queue, body, headers)
        if earlier is None:
            return Receipt()
        await self._oversize.drop_request(request)  # the message that the broker has is another one
        return await self._originals.queued(admitted.request, earlier)

    async def _send(self, request: Request, queue: Queue, body: bytes, headers: dict[str, str]) -> int | None:
        """The message under which the broker took a request of that id before, within its duplicate window.

        Where no stream is there to take it, nobody has it: it is sent again, until the stream is declared anew or its
        servers have chosen who leads it, or the time is over.
        """
        until_s = time.monotonic() + self._timeout_s
        backoff = Backoff(*NO_STREAM_RETRY_S)
        while True:
            require_connection(self._nc)
            try:
                ack = await self._js.publish(queue.subject, body, timeout=self._timeout_s, headers=headers)
            except (APIError, nats.errors.Error, TimeoutError) as error:
                wait_s = backoff.next_s()
                if may_lack_stream(error):
                    self._missed()
                if refusal_of(error) is Refusal.NO_STREAM and time.monotonic() + wait_s < until_s:
                    await asyncio.sleep(wait_s)
                    continue
                if refusal_of(error) is not None:  # else the broker may have it after all
                    await self._oversize.drop_request(request)
                raise self._refused(error, request, queue) from error
            self._health.fine(_PART)
            return ack.seq if ack.duplicate else None

    def _refused(self, error: Exception, request: Request, queue: Queue) -> HeadraceError:
        match refusal_of(error):
            case Refusal.SUBJECT_FULL:
                named = f"the queue of {queue.model}, {queue.priority.label}, tenant {queue.tenant} is full"
                return Overloaded(named, self._catalogue.retry_after_s(queue.model))
            case Refusal.STREAM_FULL:
                full = "the broker's store of waiting requests is full"
                self._trouble(full)
                return Overloaded(full, self._catalogue.retry_after_s(queue.model))
            case Refusal.TOO_LARGE:
                return InvalidRequest(
                    content_field(request), "the request is larger than the broker's stream takes"
                )
            case Refusal.NO_STREAM:
                missing = "the broker has no stream for requests at the moment; try again"
                self._trouble(missing)
                return Unavailable("queue", missing)
            case None if isinstance(error, TimeoutError):
                self._trouble("the broker does not confirm requests")
                return _unconfirmed(request, f"within {self._timeout_s:g} s")
            case None if isinstance(error, nats.errors.ConnectionReconnectingError):
                return _unconfirmed(request, "before the connection to it was lost")
            case None:
                return unanswered(error)

    def _trouble(self, problem: str) -> None:
        if self._nc.is_connected:  # else that is the trouble, and known
            self._health.trouble(_PART, problem, for_s=TROUBLE_KEPT_S)


def _unconfirmed(request: Request, when: str) -> Unavailable:
    return Unavailable(
        "queue",
        f"the broker did not confirm request {request.id} {when};"
        " sent again under this id, it is not done twice, and `headrace result` knows it where it was",
    )
