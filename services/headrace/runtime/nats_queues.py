"""The queues on the broker: which there are, and the consumer through which all routers pull one."""

from __future__ import annotations

import nats.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy
from nats.js.errors import APIError, NotFoundError

from headrace.contract import subjects
from headrace.contract.errors import Unavailable
from headrace.runtime.nats_refusal import CONSUMER_CREATE, STREAM_NOT_FOUND

log = structlog.get_logger(__name__)

# A queue's consumer delivers this much without an acknowledgement at most, over all routers; the router's own bounds
# are lower. It keeps a broken client from draining a queue.
MAX_ACK_PENDING = 20_000


class StreamMissing(Unavailable):
    """The stream of requests is not there: somebody deleted it. It has to be declared anew."""


async def ensure_queue_consumer(
    js: JetStreamContext,
    subject: str,
    *,
    ack_wait_s: float,
    idle_s: float,
    max_ack_pending: int = MAX_ACK_PENDING,
) -> str:
    """Makes the durable pull consumer of the queue `subject` as it should be, and gives its name.

    Bind to it with `js.pull_subscribe_bind(consumer=name, stream=subjects.REQUESTS_STREAM)`. All routers share it.
    One that is there with other settings, of an earlier start, gets these; where the broker cannot change one of them
    it is made anew, and what it had delivered is delivered again. After `idle_s` without a pull the broker forgets it,
    and the next caller makes it anew; no request is lost. Raises StreamMissing, or Unavailable.
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
        try:
            await js.add_consumer(subjects.REQUESTS_STREAM, wanted)
        except APIError as error:
            if not _unchangeable(error):
                raise
            log.warning("queue.consumer_made_anew", queue=subject, problem=error.description)
            await js.delete_consumer(subjects.REQUESTS_STREAM, name)
            await js.add_consumer(subjects.REQUESTS_STREAM, wanted)
    except (APIError, TimeoutError, nats.errors.Error) as error:
        raise _unavailable(f"the consumer of {subject}", error) from error
    return name


def _unchangeable(error: APIError) -> bool:
    """Whether it is there with a setting that can only be chosen once: "replay policy can not be updated"."""
    return error.err_code == CONSUMER_CREATE and "can not be updated" in (error.description or "")


async def list_queues(js: JetStreamContext) -> dict[str, int]:
    """The queues that hold requests, running ones included, with how many. Raises StreamMissing, or Unavailable."""
    try:
        info = await js.stream_info(subjects.REQUESTS_STREAM, subjects_filter=subjects.REQUESTS_WILDCARD)
    except (APIError, TimeoutError, nats.errors.Error) as error:
        raise _unavailable("the list of queues", error) from error
    return dict(info.state.subjects or {})


def _unavailable(what: str, error: Exception) -> Unavailable:
    problem = error.description if isinstance(error, APIError) else "did not answer in time"
    missing = isinstance(error, NotFoundError) and error.err_code == STREAM_NOT_FOUND
    return (StreamMissing if missing else Unavailable)(what, problem or "refused")
