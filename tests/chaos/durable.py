"""What the broker holds at the end: outcomes, dead letters, and queues that must be empty."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from headrace.contract.queue_wire import decode_result
from headrace.contract.subjects import (
    DEAD_STREAM,
    HEADER_CONTENT_TYPE,
    REQUESTS_STREAM,
    RESULTS_STREAM,
)
from headrace.contract.values import Outcome
from tests.chaos.oracle import TENANT as UNDISTURBED


@dataclass(slots=True)
class Durable:
    """Outcomes by request id, each with its place in the stream."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    doubled: list[str] = field(default_factory=list)
    dead_letters: int = 0
    left: int = 0
    """Messages still in the queues."""
    pending: int = 0
    """Deliveries that nobody acknowledged."""


async def wait_empty(connection: Client, limit_s: float) -> bool:
    """Whether all queues are empty, and all deliveries acknowledged, within `limit_s`."""
    js = connection.jetstream(timeout=2.0)
    until_s = time.monotonic() + limit_s
    while await _left(js) != (0, 0):
        if time.monotonic() >= until_s:
            return False
        await asyncio.sleep(0.2)  # the broker tells nobody of an acknowledgement
    return True


async def _left(js: JetStreamContext) -> tuple[int, int]:
    try:
        state = (await js.stream_info(REQUESTS_STREAM)).state
        consumers = await js.consumers_info(REQUESTS_STREAM)
    except (APIError, NatsError, TimeoutError):
        return -1, -1
    return state.messages, sum(consumer.num_ack_pending or 0 for consumer in consumers)


async def read_durable(connection: Client) -> Durable:
    """Everything, when the mesh is quiet."""
    js = connection.jetstream(timeout=5.0)
    found = Durable()
    found.left, found.pending = await _left(js)
    found.dead_letters = (await js.stream_info(DEAD_STREAM)).state.messages
    total = (await js.stream_info(RESULTS_STREAM)).state.messages
    subscription = await js.subscribe("hr.v1.res.>", stream=RESULTS_STREAM, ordered_consumer=True)
    for _ in range(total):
        message = await subscription.next_msg(timeout=10)
        *_, tenant, request_id = message.subject.split(".")
        if tenant == UNDISTURBED:
            continue
        outcome = decode_result(message.data, (message.headers or {}).get(HEADER_CONTENT_TYPE, ""))
        if request_id in found.outcomes or outcome.request_id != request_id:
            found.doubled.append(request_id)
        found.outcomes[request_id] = outcome
    await subscription.unsubscribe()
    return found
