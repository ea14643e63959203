"""The queues on the broker: which there are, and the consumer through which all routers pull one."""

from __future__ import annotations

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy
from nats.js.errors import APIError

from headrace.contract import subjects
from headrace.contract.errors import Unavailable

# A queue's consumer delivers this much without an acknowledgement at most, over all routers; the router's own bounds
# are lower. It keeps a broken client from draining a queue.
MAX_ACK_PENDING = 20_000


async def ensure_queue_consumer(
    js: JetStreamContext,
    subject: str,
    *,
    ack_wait_s: float,
    idle_s: float,
    max_ack_pending: int = MAX_ACK_PENDING,
) -> str:
    """Makes the durable pull consumer of the queue `subject` where it is missing, and gives its name.

    Bind to it with `js.pull_subscribe_bind(consumer=name, stream=subjects.REQUESTS_STREAM)`. All routers share it.
    After `idle_s` without a pull the broker forgets it, and the next caller makes it anew; no request is lost.
    """
    name = subjects.consumer_name(subject)
    wanted = ConsumerConfig(
        name=name,
        durable_name=name,
        filter_subject=subject,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        replay_policy=ReplayPolicy.INSTANT,
        ack_wait=ack_wait_s,
        max_ack_pending=max_ack_pending,
        max_deliver=-1,  # the router counts attempts: the broker would drop a request without an outcome
        inactive_threshold=idle_s,
    )
    try:
        await js.add_consumer(subjects.REQUESTS_STREAM, wanted)
    except (APIError, TimeoutError, nats.errors.Error) as error:
        problem = error.description if isinstance(error, APIError) else "did not answer in time"
        raise Unavailable(f"the consumer of {subject}", problem or "refused") from error
    return name


async def list_queues(js: JetStreamContext) -> dict[str, int]:
    """The queues that hold requests, running ones included, with how many. Raises Unavailable."""
    try:
        info = await js.stream_info(subjects.REQUESTS_STREAM, subjects_filter=subjects.REQUESTS_WILDCARD)
    except (APIError, TimeoutError, nats.errors.Error) as error:
        problem = error.description if isinstance(error, APIError) else "did not answer in time"
        raise Unavailable("the list of queues", problem or "refused") from error
    return dict(info.state.subjects or {})
