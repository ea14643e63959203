"""Producers and consumers that have nothing but a NATS client, and speak JSON."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from headrace.contract.queue_wire import decode_result
from headrace.contract.subjects import (
    HEADER_CONTENT_TYPE,
    RESULTS_STREAM,
    cancel_subject,
    result_subject,
    token_subject,
)
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk, Usage
from tests.chaos.asked import Asked, Way
from tests.chaos.doors import TEMPERATURE
from tests.chaos.heard import Heard
from tests.chaos.seen import Seen

ACK_S = 2.0
"""For the acknowledgement of a publish; then the same is published again."""
LOOK_S = 1.5
"""Silence after which the durable outcome is looked for: events may be lost, it is not."""
CANCEL_S = 1.0
"""For the word that a request is cancelled."""


async def connect(url: str) -> Client:
    """A connection that comes back by itself."""

    async def quiet(*_: object) -> None:
        """The broker is killed on purpose."""

    return await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.2, error_cb=quiet, disconnected_cb=quiet
    )


class NatsClients:
    """What all of them share: one connection."""

    def __init__(self, connection: Client, model: str) -> None:
        self._connection = connection
        self._js = connection.jetstream(timeout=ACK_S)
        self._model = model
        self.until_s = float("inf")

    async def ask(self, seen: Seen) -> None:
        """One request, from its publication to its durable outcome."""
        asked = seen.asked
        own_inbox = asked.number % 2 == 0
        subject = self._connection.new_inbox() if own_inbox else token_subject(asked.tenant, asked.request_id)
        events: asyncio.Queue[Msg] = asyncio.Queue()  # of one request: bounded by its tokens
        subscription = await self._connection.subscribe(subject, cb=events.put)
        try:
            await self._publish(seen, subject if own_inbox else "")
            if seen.accepted:
                await self._listen(seen, events)
        finally:
            try:
                await subscription.unsubscribe()
            except NatsError:
                seen.note("the broker was away at the end")

    async def _publish(self, seen: Seen, reply_to: str) -> None:
        asked = seen.asked
        seen.first_asked_s = time.monotonic()
        body = json.dumps(_body(asked, reply_to)).encode()
        subject = f"hr.v1.req.{self._model}.{asked.priority}.{asked.tenant}"
        while not seen.accepted and time.monotonic() < self.until_s:
            try:
                ack = await self._js.publish(subject, body, headers={"Nats-Msg-Id": asked.request_id})
            except (NatsError, TimeoutError) as error:
                seen.note(f"publish: {type(error).__name__}: {error}")
                await asyncio.sleep(0.1)
            else:
                seen.accept(f"acknowledged as {ack.seq}{' (again)' if ack.duplicate else ''}")

    async def _listen(self, seen: Seen, events: asyncio.Queue[Msg]) -> None:
        heard = seen.heard = Heard()
        while seen.result is None and time.monotonic() < self.until_s:
            try:
                message = await asyncio.wait_for(events.get(), LOOK_S)
            except TimeoutError:
                await self._look(seen)
                continue
            event = json.loads(message.data)
            if "tokens" in event:
                heard.take(_chunk(event["tokens"]))
                await self._cancel_in_time(seen, heard)
            else:
                heard.finished = _finished(event["finished"])
                seen.finish(heard.finished)
                await self._look(seen)

    async def _cancel_in_time(self, seen: Seen, heard: Heard) -> None:
        asked = seen.asked
        if asked.way is not Way.NATS_CANCEL or seen.cancelled_s or heard.next_index < asked.act_at:
            return
        seen.cancels("cancels")
        subject = cancel_subject(asked.tenant, asked.request_id)
        try:
            answer = await self._connection.request(subject, timeout=CANCEL_S)
        except (NatsError, TimeoutError) as error:
            seen.note(f"not cancelled: {type(error).__name__}")
        else:
            seen.tell(OutcomeKind(answer.data.decode()))

    async def _look(self, seen: Seen) -> None:
        asked = seen.asked
        try:
            found = await self._js.get_last_msg(
                RESULTS_STREAM, result_subject(asked.tenant, asked.request_id), direct=True
            )
        except NotFoundError:
            seen.note("no outcome yet")
        except (NatsError, TimeoutError) as error:
            seen.note(f"no outcome to be had: {type(error).__name__}")
            await asyncio.sleep(0.1)
        else:
            kind = (found.headers or {}).get(HEADER_CONTENT_TYPE, "")
            seen.fetched(decode_result(found.data or b"", kind))


def _body(asked: Asked, reply_to: str) -> Mapping[str, Any]:
    late = asked.timeout_s is not None
    deadline = datetime.fromtimestamp(time.time() + (asked.timeout_s or 0.0), UTC)
    return {
        **({} if asked.header_only else {"id": asked.request_id}),
        "prompt": asked.prompt,
        "max_tokens": asked.max_tokens,
        "stop": list(asked.stop),
        "sampling": {"ignore_end": asked.ignore_end, "temperature": TEMPERATURE if asked.sampled else 0.0},
        **({"reply_to": reply_to} if reply_to else {}),
        **({"deadline": deadline.isoformat()} if late else {}),
    }


def _chunk(event: Mapping[str, Any]) -> TokenChunk:
    return TokenChunk(
        first_index=event["first_index"],
        token_ids=tuple(event["token_ids"]),
        text=event["text"],
        text_lengths=tuple(event.get("text_lengths", ())),
    )


def _finished(event: Mapping[str, Any]) -> Outcome:
    return Outcome(
        request_id=event["request_id"],
        kind=OutcomeKind(event["kind"].removeprefix("OUTCOME_KIND_").lower()),
        model=event["model"],
        usage=Usage(
            output_tokens=event["usage"]["output_tokens"], attempts=event["usage"].get("attempts", 0)
        ),
    )
