"""How a request is ended early: by its client's wish, or because its client went away."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import nats.errors
import structlog
from nats.aio.client import Client

from headrace.contract.errors import HeadraceError, Unavailable
from headrace.contract.subjects import FOLLOWED, HEADER_CANCEL_FOR, HEADER_CANCEL_KIND, cancel_subject
from headrace.contract.values import Failure, Outcome, OutcomeKind, Usage
from headrace.gateway.audience import Audience
from headrace.gateway.broker import require_connection, unanswered
from headrace.gateway.originals import Receipt
from headrace.gateway.results import Results
from headrace.gateway.streams import Streams

log = structlog.get_logger(__name__)

ASK_AGAIN_S = 1.0
"""How long a client that hung up before its request was accepted gets to ask for it at another gateway."""

CANCELLED = "CANCELLED"
"""The code of an outcome that a cancellation made."""


class Cancels:
    """Ends requests. An async context manager: leaving it waits for the cancellations that are under way.

    Nobody can tell cheaply whether a request of some id waits in one of the queues. So a request that no router holds
    gets its outcome here, whether or not it exists: a router that comes upon it later finds the outcome, and computes
    nothing. An id that was never used is thereby used up.
    """

    def __init__(
        self, nc: Client, results: Results, streams: Streams, *, gateway_id: str, answer_wait_s: float
    ) -> None:
        """`answer_wait_s` is how long a router that holds a request may take to end it and to store its outcome."""
        self._nc = nc
        self._gateway_id = gateway_id
        self._results = results
        self._streams = streams
        self._answer_wait_s = answer_wait_s
        # At most one task per request that is given up, each for some answer waits.
        self._tasks = asyncio.TaskGroup()

    async def cancel(self, tenant: str, request_id: str, fingerprint: str = "") -> OutcomeKind:
        """The outcome that the request has now. Raises Unavailable where the broker is away.

        `fingerprint` is of what it asked for, where that is known.
        """
        answer = await self._ask_routers(
            tenant, request_id, {HEADER_CANCEL_KIND: OutcomeKind.CANCELLED.value}
        )
        if (kind := _kind_in(answer)) is not None:
            return kind
        outcome = await self._results.find(tenant, request_id)
        if outcome is None:
            if not fingerprint and (here := self._streams.find(tenant, request_id)) is not None:
                fingerprint = here.fingerprint
            outcome = await self._store_cancelled(tenant, request_id, fingerprint)
        if (audience := self._streams.find(tenant, request_id)) is not None:
            audience.end(outcome)
        return outcome.kind

    def give_up(self, tenant: str, request_id: str, fingerprint: str, *, expired: bool) -> None:
        """Ends a request whose last client here is gone, unless clients of another gateway follow it. Does not wait.

        One whose deadline has passed gets its outcome from the router in any case; it is told only to stop sooner.
        """
        ending = (
            self._tell_expired(tenant, request_id)
            if expired
            else self._cancel_quietly(tenant, request_id, fingerprint)
        )
        self._tasks.create_task(ending, name=f"give up {request_id}")

    def give_up_if(self, publishing: asyncio.Future[Receipt], audience: Audience, *, expired: bool) -> None:
        """Ends a request whose client went while it was being published, if that succeeds. Does not wait."""

        async def end() -> None:
            try:
                receipt = await publishing
            except HeadraceError:
                return  # it is another's, or the broker does not have it, or nobody knows
            if receipt.again:
                return  # it is an earlier call's
            await asyncio.sleep(ASK_AGAIN_S)
            if self._streams.find(audience.tenant, audience.request_id) is not None:
                return  # it is waited for here
            self.give_up(audience.tenant, audience.request_id, audience.fingerprint, expired=expired)

        self._tasks.create_task(end(), name=f"give up {audience.request_id} when it is published")

    async def _ask_routers(self, tenant: str, request_id: str, headers: dict[str, str]) -> str | None:
        """The answer of the router that holds the request; None where none does."""
        require_connection(self._nc)
        try:
            answer = await self._nc.request(
                cancel_subject(tenant, request_id), timeout=self._answer_wait_s, headers=headers
            )
        except (TimeoutError, nats.errors.NoRespondersError):
            return None
        except nats.errors.Error as error:
            raise unanswered(error) from error
        return answer.data.decode("ascii", "replace")

    async def _store_cancelled(self, tenant: str, request_id: str, fingerprint: str) -> Outcome:
        cancelled = Outcome(
            request_id=request_id,
            kind=OutcomeKind.CANCELLED,
            model="",
            usage=Usage(),
            failure=Failure(code=CANCELLED, message="cancelled before any router took it up"),
        )
        if await self._results.store(tenant, cancelled, fingerprint):
            return cancelled
        found = await self._results.find(tenant, request_id)
        if found is None:
            raise Unavailable("result", "the outcome was stored by another and cannot be read; try again")
        return found

    async def _cancel_quietly(self, tenant: str, request_id: str, fingerprint: str) -> None:
        headers = {HEADER_CANCEL_KIND: OutcomeKind.CANCELLED.value, HEADER_CANCEL_FOR: self._gateway_id}
        try:
            answer = await self._ask_routers(tenant, request_id, headers)
            if answer != FOLLOWED and _kind_in(answer) is None:
                await self.cancel(tenant, request_id, fingerprint)
        except HeadraceError as error:
            # The router that holds it, if any, goes on to its end: costly, and nothing else.
            log.warning("request.not_cancelled", request_id=request_id, problem=str(error))

    async def _tell_expired(self, tenant: str, request_id: str) -> None:
        if not self._nc.is_connected:
            return
        headers = {HEADER_CANCEL_KIND: OutcomeKind.EXPIRED.value, HEADER_CANCEL_FOR: self._gateway_id}
        try:
            await self._nc.publish(cancel_subject(tenant, request_id), headers=headers)
        except nats.errors.Error as error:
            log.debug("request.expiry_not_told", request_id=request_id, problem=type(error).__name__)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(kind, error, tb)


def _kind_in(answer: str | None) -> OutcomeKind | None:
    """The outcome's kind that a router answered with."""
    try:
        return OutcomeKind(answer)
    except ValueError:  # from a newer router: the durable outcome has it
        return None
