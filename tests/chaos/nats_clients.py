"""Producers and consumers that have nothing but a NATS client, and speak JSON."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from headrace.contract.queue_wire import decode_result
from headrace.contract.subjects import HEADER_CONTENT_TYPE, RESULTS_STREAM, result_subject, token_subject
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk, Usage
from tests.chaos.asked import TENANT, Asked
from tests.chaos.seen import Seen

ACK_S = 2.0
"""For the acknowledgement of a publish; then the same is published again."""
LOOK_S = 1.5
"""Silence after which the durable outcome is looked for: events may be lost, it is not."""


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
        subject = self._connection.new_inbox() if own_inbox else token_subject(TENANT, asked.request_id)
        heard: asyncio.Queue[Msg] = asyncio.Queue()  # of one request's events: bounded by its tokens
        subscription = await self._connection.subscribe(subject, cb=heard.put)
        try:
            await self._publish(seen, subject if own_inbox else "")
            if seen.accepted:
                await self._listen(seen, heard)
        finally:
            try:
                await subscription.unsubscribe()
            except NatsError:
                seen.note("the broker was away at the end")

    async def _publish(self, seen: Seen, reply_to: str) -> None:
        asked = seen.asked
        body = json.dumps(_body(asked, reply_to)).encode()
        subject = f"hr.v1.req.{self._model}.{asked.priority}.{TENANT}"
        while not seen.accepted and time.monotonic() < self.until_s:
            try:
                ack = await self._js.publish(subject, body, headers={"Nats-Msg-Id": asked.request_id})
            except (NatsError, TimeoutError) as error:
                seen.note(f"publish: {type(error).__name__}: {error}")
                await asyncio.sleep(0.1)
            else:
                seen.accept(f"acknowledged as {ack.seq}{' (again)' if ack.duplicate else ''}")

    async def _listen(self, seen: Seen, heard: asyncio.Queue[Msg]) -> None:
        while seen.result is None and time.monotonic() < self.until_s:
            try:
                message = await asyncio.wait_for(heard.get(), LOOK_S)
            except TimeoutError:
                await self._look(seen)
                continue
            event = json.loads(message.data)
            if "tokens" in event:
                seen.hear(_chunk(event["tokens"]))
            else:
                seen.finish(_finished(event["finished"]))
                await self._look(seen)

    async def _look(self, seen: Seen) -> None:
        try:
            found = await self._js.get_last_msg(
                RESULTS_STREAM, result_subject(TENANT, seen.asked.request_id), direct=True
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
    return {
        **({} if asked.header_only else {"id": asked.request_id}),
        "prompt": asked.prompt,
        "max_tokens": asked.max_tokens,
        "stop": list(asked.stop),
        "sampling": {"ignore_end": asked.ignore_end},
        **({"reply_to": reply_to} if reply_to else {}),
    }


def _chunk(event: Mapping[str, Any]) -> TokenChunk:
    return TokenChunk(
        first_index=event["first_index"], token_ids=tuple(event["token_ids"]), text=event["text"]
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
