"""One request's events, over as many calls as it takes.

A call that breaks because its gateway was lost, or stops, is followed by another one from the next token on: at the
next gateway, or at the same one when it is back. Whoever reads the events sees neither gap nor repeat.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

import grpc.aio

from headrace.client.failures import error_of_call
from headrace.client.gateways import Gateways
from headrace.contract import client_wire as wire
from headrace.contract.errors import DeadlinePassed, HeadraceError, NotFound, Overloaded, Unavailable
from headrace.contract.inference_wire import Attachment, encode_attach
from headrace.contract.values import Accepted, Outcome, QueuePosition, TokenChunk
from headrace.runtime.grpc_tracing import call_metadata

Event: TypeAlias = "Accepted | QueuePosition | TokenChunk | Outcome"
Begin: TypeAlias = "Callable[[Any, float | None], Any]"
"""Makes the first call, with a gateway's stub and a timeout in seconds."""

LONGEST_WAIT_S = 300.0
"""That a gateway may be asked to wait for a request which waits in its queue."""

GIVE_UP_S = 30.0
"""How long no gateway may answer before a stream is given up: a gateway's restart takes a few seconds."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
"""Between two tries, when each gateway was tried: doubled, less up to half by chance."""


class Unbroken:
    """Gives the events of one request. Writers: `events` alone."""

    def __init__(
        self,
        gateways: Gateways,
        begin: Begin,
        *,
        tenant: str,
        request_id: str,
        from_index: int = 0,
        timeout_s: float | None = None,
        reattach: bool = True,
    ) -> None:
        """`request_id` is "" where the first gateway is to choose it. `timeout_s` is for all calls together."""
        self._gateways = gateways
        self._begin = begin
        self._tenant = tenant
        self._deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._reattach = reattach
        self.request_id = request_id
        self.next_index = from_index
        self.accepted = False
        self.ended = False
        self.adrift = False
        """Whether the call that published the request has broken."""
        self._failures = 0
        """In a row, without anything new in between."""
        self._failing_since_s = 0.0
        self._called_s = 0.0

    async def events(self) -> AsyncGenerator[Event, None]:
        """Accepted, once; places and tokens; the outcome last. Raises an error of the tree."""
        while True:
            gateway = self._gateways.current
            call = self._call(gateway.stub)
            try:
                async for response in call:
                    event = self._next(wire.decode_generate_response(response))
                    if event is not None:
                        yield event
                    if self.ended:
                        return
                problem: HeadraceError = Unavailable("gateway", "the stream ended without an outcome")
            except grpc.aio.AioRpcError as error:
                problem = error_of_call(error)
                problem.__cause__ = error
            finally:
                call.cancel()
            if isinstance(problem, Unavailable):
                self._gateways.failed(gateway)
            await self._pause(problem)

    def _call(self, stub: Any) -> Any:
        left_s = None if self._deadline_s is None else self._deadline_s - time.monotonic()
        if left_s is not None and left_s <= 0 and self.adrift:
            raise self._told(DeadlinePassed(-left_s))
        self._called_s = time.monotonic()
        if not self.accepted:
            return self._begin(stub, left_s)
        wanted = Attachment(
            tenant=self._tenant,
            request_id=self.request_id,
            from_index=self.next_index,
            wait_s=LONGEST_WAIT_S,
        )
        return stub.Attach(encode_attach(wanted), timeout=left_s, metadata=call_metadata())

    def _next(self, event: Event | None) -> Event | None:
        """What of an event is new to the reader."""
        match event:
            case None:
                return None
            case Accepted() if self.accepted:
                return None
            case Accepted():
                self.accepted, self.request_id = True, event.request_id
            case TokenChunk():
                if (event := event.since(self.next_index)) is None:
                    return None
                self.next_index = event.next_index
            case Outcome():
                self.ended = True
        self._failures = 0
        return event

    async def _pause(self, problem: HeadraceError) -> None:
        """Waits before the next try. Raises `problem` where there is to be none."""
        if not self._goes_on_after(problem):
            raise self._told(problem)
        self.adrift = True
        now_s = time.monotonic()
        if isinstance(problem, NotFound):
            return  # it waits in its queue, as it would have at the first gateway
        if now_s - self._called_s > GIVE_UP_S:
            self._failures = 0  # it was good for a while
        self._failures += 1
        if self._failures == 1:
            self._failing_since_s = now_s
        if self._failures < len(self._gateways):
            return  # there is one that has not been tried
        if not self.accepted or now_s - self._failing_since_s > GIVE_UP_S:
            raise self._told(problem)
        pauses = self._failures - len(self._gateways)
        longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(pauses, 16))
        await asyncio.sleep(longest_s * (1 - random.random() / 2))

    def _told(self, problem: HeadraceError) -> HeadraceError:
        """The error, with the request that it ends."""
        if self.accepted:
            problem.request_id = self.request_id
        return problem

    def _goes_on_after(self, problem: HeadraceError) -> bool:
        if not self._reattach or not self.request_id:
            return False
        if self.accepted:
            return isinstance(problem, Unavailable | Overloaded | NotFound)
        return isinstance(problem, Unavailable)
