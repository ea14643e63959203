"""The durable outcomes: one per request, kept by the broker for a set time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from headrace.contract import subjects
from headrace.contract.queue_wire import decode_result, encode_result
from headrace.contract.values import Outcome
from headrace.gateway.broker import require_connection, unanswered
from headrace.runtime.nats_refusal import Refusal, may_lack_stream, refusal_of
from headrace.runtime.oversize import Oversize

# A message on an outcome's subject only says that somebody publishes one; that the broker keeps it may come a moment
# later. So long is waited before the second look, and twice as long before each further one.
_STORING_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A durable outcome, and the fingerprint of what was asked for; "" where the one who stored it did not know."""

    outcome: Outcome
    fingerprint: str


class Results:
    """Reads and writes outcomes. All methods raise Unavailable where the broker does not answer."""

    def __init__(
        self,
        nc: Client,
        js: JetStreamContext,
        *,
        oversize: Oversize,
        timeout_s: float,
        missed: Callable[[], None],
    ) -> None:
        """`missed` is called where no stream answers."""
        self._nc = nc
        self._js = js
        self._oversize = oversize
        self._timeout_s = timeout_s
        self._missed = missed

    async def find(self, tenant: str, request_id: str) -> Outcome | None:
        """The outcome, whole; None where there is none, or no longer."""
        result = await self.look(tenant, request_id)
        return None if result is None else result.outcome

    async def look(self, tenant: str, request_id: str) -> Result | None:
        """As `find`, with what was asked for."""
        require_connection(self._nc)
        subject = subjects.result_subject(tenant, request_id)
        try:
            async with asyncio.timeout(self._timeout_s):
                message = await self._js.get_last_msg(subjects.RESULTS_STREAM, subject, direct=True)
        except NotFoundError:
            return None
        except nats.errors.NoRespondersError as error:
            self._missed()
            raise unanswered(error) from error
        except (APIError, nats.errors.Error, TimeoutError) as error:
            raise unanswered(error) from error
        headers = message.headers or {}
        content_type = headers.get(subjects.HEADER_CONTENT_TYPE, subjects.CONTENT_TYPE_JSON)
        outcome = decode_result(message.data or b"", content_type)
        return Result(
            outcome=await self._oversize.whole_outcome(tenant, outcome, content_type),
            fingerprint=headers.get(subjects.HEADER_FINGERPRINT, ""),
        )

    async def wait(self, tenant: str, request_id: str, wait_s: float) -> Outcome | None:
        """The outcome as soon as there is one; None where there is none after `wait_s`."""
        result = await self.wait_for(tenant, request_id, wait_s)
        return None if result is None else result.outcome

    async def wait_for(self, tenant: str, request_id: str, wait_s: float) -> Result | None:
        """As `wait`, with what was asked for.

        Listens first and looks then, so that none is missed in between. What is heard is only a sign to look again:
        the broker passes on an outcome that it refuses to keep, too.
        """
        if wait_s <= 0:
            return await self.look(tenant, request_id)
        require_connection(self._nc)
        until_s = time.monotonic() + wait_s
        heard = await self._nc.subscribe(subjects.result_subject(tenant, request_id), pending_msgs_limit=16)
        try:
            pause_s = wait_s
            while (result := await self.look(tenant, request_id)) is None:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return None
                try:
                    await heard.next_msg(timeout=min(pause_s, left_s))
                    pause_s = _STORING_S
                except TimeoutError:
                    pause_s = min(2 * pause_s, wait_s)
            return result
        except nats.errors.Error as error:
            raise unanswered(error) from error
        finally:
            await _end(heard)

    async def store(self, tenant: str, outcome: Outcome, fingerprint: str) -> bool:
        """Makes `outcome` the request's. False where it has one already: the broker keeps the first.

        `fingerprint` is of what was asked for; "" = that is not known.
        """
        require_connection(self._nc)
        subject = subjects.result_subject(tenant, outcome.request_id)
        body = encode_result(outcome, as_json=False)
        # No Nats-Msg-Id: within the duplicate window the broker would pass a second outcome off as the first one sent
        # again, where the limit of one message per subject says plainly that there is another.
        headers = {subjects.HEADER_CONTENT_TYPE: subjects.CONTENT_TYPE_PROTOBUF}
        if fingerprint:
            headers[subjects.HEADER_FINGERPRINT] = fingerprint
        try:
            await self._js.publish(
                subject, body, timeout=self._timeout_s, stream=subjects.RESULTS_STREAM, headers=headers
            )
        except (APIError, nats.errors.Error, TimeoutError) as error:
            refusal = refusal_of(error)
            if refusal is Refusal.SUBJECT_FULL:
                return False
            if may_lack_stream(error):
                self._missed()
            raise unanswered(error) from error
        return True


async def _end(subscription: Subscription) -> None:
    with contextlib.suppress(nats.errors.Error):  # closed with its connection
        await subscription.unsubscribe()
