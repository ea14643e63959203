"""Dead letters as routers leave them."""

from __future__ import annotations

import json

from nats.aio.client import Client

from headrace.contract.queue_wire import DeadLetter, encode_dead_letter
from headrace.contract.subjects import CONTENT_TYPE_JSON, HEADER_CONTENT_TYPE, Queue, dead_subject
from headrace.contract.values import NO_TRACE, Failure, Priority

QUEUE = Queue(model="fake", priority=Priority.NORMAL, tenant="shop")
SECRET = "what was asked"


async def lay_letter(nc: Client) -> int:
    """A dead letter as a router leaves it; its number."""
    letter = DeadLetter(
        request_id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
        subject=QUEUE.subject,
        headers={HEADER_CONTENT_TYPE: CONTENT_TYPE_JSON},
        body=json.dumps({"prompt": SECRET, "max_tokens": 5}).encode(),
        failure=Failure(code="TOO_MANY_ATTEMPTS", message="its worker was lost 5 times"),
        attempts=5,
        time_s=1e9,
        trace=NO_TRACE,
    )
    ack = await nc.jetstream().publish(dead_subject("fake", "shop"), encode_dead_letter(letter))
    return int(ack.seq)
