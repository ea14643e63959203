"""What stands on the broker: the seven streams as declared. A bucket is a stream of a fixed shape."""

from __future__ import annotations

from nats.js.api import DiscardPolicy, RePublish, RetentionPolicy, StorageType, StreamConfig

from headrace.contract import subjects
from headrace.runtime.settings import Settings

UNLIMITED = -1

MAX_CONSUMERS = 100_000
"""Of the stream of requests: as many as a router may know queues. The server's own limit is 1,000 where none is set."""

_MEMBER_BYTES = 16 * 1024 * 1024  # some hundred bytes per member: room for thousands
_MODEL_BYTES = 64 * 1024 * 1024  # manifests and wishes, not weights
# What the server gives where nothing is asked for; we ask, so that it can be compared.
_BUCKET_WINDOW_S = 120.0


def wanted_streams(settings: Settings) -> list[StreamConfig]:
    """Every stream that Headrace needs, with each setting that matters. What is left out is the server's choice."""
    return [
        _requests(settings),
        _results(settings),
        _dead_letters(settings),
        _key_value(
            subjects.MEMBERS_BUCKET, settings, ttl_s=settings.nats.member_ttl_s, max_bytes=_MEMBER_BYTES
        ),
        _key_value(subjects.MODELS_BUCKET, settings, ttl_s=None, max_bytes=_MODEL_BYTES),
        _object_store(subjects.FILES_BUCKET, settings, max_bytes=UNLIMITED, max_age_s=None),
        _payloads(settings),
    ]


def as_new(wanted: StreamConfig, now_s: float) -> StreamConfig:
    """`wanted` as it is created at the Unix time `now_s`.

    The numbers of requests begin at the time in microseconds, so that none comes again where the stream was deleted: an
    acknowledgement names a message by stream, consumer and number alone, and that of a request which a router still
    holds would take another one off the new stream. No stream takes a million messages a second.
    """
    if wanted.name != subjects.REQUESTS_STREAM:
        return wanted
    return wanted.evolve(first_seq=int(now_s * 1e6))


def _requests(settings: Settings) -> StreamConfig:
    """The queues. Full: the publisher is refused, and what is queued stays. Each message is announced by its headers
    on hr.v1.seen.…, which is how a router notices a queue that it did not know.
    """
    queues = settings.queues
    return StreamConfig(
        name=subjects.REQUESTS_STREAM,
        subjects=[subjects.REQUESTS_WILDCARD],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        num_replicas=settings.nats.replicas,
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_msgs_per_subject=queues.max_messages_per_queue,
        max_msgs=UNLIMITED,
        max_consumers=MAX_CONSUMERS,
        max_bytes=queues.max_bytes,
        max_age=queues.max_age_s,
        duplicate_window=queues.duplicate_window_s,
        republish=RePublish(src=subjects.REQUESTS_WILDCARD, dest=subjects.SEEN_WILDCARD, headers_only=True),
    )


def _results(settings: Settings) -> StreamConfig:
    """The outcomes. One message per subject and nothing replaced: the broker itself refuses a second outcome."""
    queues = settings.queues
    return StreamConfig(
        name=subjects.RESULTS_STREAM,
        subjects=[subjects.RESULTS_WILDCARD],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=settings.nats.replicas,
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
        max_msgs=UNLIMITED,
        max_bytes=queues.result_max_bytes,
        max_age=queues.result_max_age_s,
        duplicate_window=min(queues.duplicate_window_s, queues.result_max_age_s),
        allow_direct=True,
    )


def _dead_letters(settings: Settings) -> StreamConfig:
    """What was given up, for a person to look at. Full: the oldest go."""
    queues = settings.queues
    return StreamConfig(
        name=subjects.DEAD_STREAM,
        subjects=[subjects.DEAD_WILDCARD],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=settings.nats.replicas,
        discard=DiscardPolicy.OLD,
        max_msgs_per_subject=UNLIMITED,
        max_msgs=UNLIMITED,
        max_bytes=queues.dead_max_bytes,
        max_age=queues.dead_max_age_s,
        duplicate_window=min(queues.duplicate_window_s, queues.dead_max_age_s),
        allow_direct=True,
    )


def _key_value(bucket: str, settings: Settings, *, ttl_s: float | None, max_bytes: int) -> StreamConfig:
    """A KV bucket with one value per key. The shape is the one that every NATS client gives its buckets."""
    return StreamConfig(
        name=f"KV_{bucket}",
        subjects=[f"$KV.{bucket}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=settings.nats.replicas,
        discard=DiscardPolicy.NEW,
        max_msgs_per_subject=1,
        max_msgs=UNLIMITED,
        max_bytes=max_bytes,
        max_age=ttl_s,
        duplicate_window=min(_BUCKET_WINDOW_S, ttl_s) if ttl_s else _BUCKET_WINDOW_S,
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
        allow_msg_ttl=True,
    )


def _payloads(settings: Settings) -> StreamConfig:
    """Requests and results that are too large for a message. Full: what would be put is refused, and what is there
    stays. A request's object goes when its request ends, a result's with the result; the age is for those that nobody
    removes, and for requests that wait so long.
    """
    queues = settings.queues
    bucket = _object_store(
        subjects.PAYLOADS_BUCKET,
        settings,
        max_bytes=queues.payload_max_bytes,
        max_age_s=queues.payload_max_age_s,
    )
    bucket.allow_msg_ttl = True
    return bucket


def _object_store(
    bucket: str, settings: Settings, *, max_bytes: int, max_age_s: float | None
) -> StreamConfig:
    """An object store. That of model files is unbounded: the server's disk allowance is its bound."""
    return StreamConfig(
        name=f"OBJ_{bucket}",
        subjects=[f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=settings.nats.replicas,
        discard=DiscardPolicy.NEW,
        max_msgs_per_subject=UNLIMITED,
        max_msgs=UNLIMITED,
        max_bytes=max_bytes,
        max_age=max_age_s,
        duplicate_window=min(_BUCKET_WINDOW_S, max_age_s) if max_age_s else _BUCKET_WINDOW_S,
        allow_rollup_hdrs=True,
        allow_direct=True,
    )
