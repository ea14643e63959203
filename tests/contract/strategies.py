"""Values of the contract, for property tests. Times are multiples of 1/8 s, so that they are exact as floats."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TypeVar

from hypothesis import strategies as st

from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.alias import Alias
from headrace.contract.claims import Claim, HandOver, NotHere, Running
from headrace.contract.costs import CostGrid, ModelCost
from headrace.contract.deliver import (
    Delivery,
    DeliveryMessage,
    GatewayJoin,
    GatewayMessage,
    HeldStream,
    Model,
    ModelLoad,
    Recall,
)
from headrace.contract.ids import derived_request_id
from headrace.contract.inference_wire import Attachment
from headrace.contract.log_level import LogLevel
from headrace.contract.queue_wire import DeadLetter
from headrace.contract.requests import ChatMessage, Request
from headrace.contract.values import (
    Accepted,
    Failure,
    FinishReason,
    Outcome,
    OutcomeKind,
    PayloadReference,
    Priority,
    QueuePosition,
    Sampling,
    Task,
    TokenChunk,
    TraceContext,
    Usage,
)
from headrace.contract.work import (
    BatchEnded,
    BatchEntry,
    ComingModel,
    Device,
    EntryEnd,
    EntryProgress,
    Peer,
    RouterMessage,
    ServedModel,
    StartBatch,
    WorkerJoin,
    WorkerMessage,
)

_T = TypeVar("_T")

TEXTS = st.text(max_size=12)
NAMES = st.text("aZ0_-", min_size=1, max_size=64)
UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)
SECONDS = st.integers(0, 2**32).map(lambda eighths: eighths / 8)
MILLIONTHS = st.integers(0, 1_000_000).map(lambda millionths: millionths / 1_000_000)
IDS = st.builds(derived_request_id, st.just("S"), UINT32, st.integers(0, 2**48 - 1))
TOKEN_IDS = st.lists(UINT32, max_size=5).map(tuple)


def tuples(values: st.SearchStrategy[_T]) -> st.SearchStrategy[tuple[_T, ...]]:
    return st.lists(values, max_size=3).map(tuple)


SAMPLINGS = st.builds(
    Sampling,
    temperature=MILLIONTHS.map(lambda value: round(2 * value, 6)),
    top_k=UINT32,
    top_p=MILLIONTHS,
    repetition_penalty=MILLIONTHS.map(lambda value: round(0.5 + 1.5 * value, 6)),
    ignore_end=st.booleans(),
    beam_size=st.integers(1, 32),
)
VECTORS = st.lists(
    st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=40).map(
        lambda numbers: struct.pack(f"<{len(numbers)}f", *numbers)
    ),
    max_size=3,
).map(tuple)
"""Far beyond what models make. JSON rounds the very largest up, to what is none."""
CUT_TEXTS = st.lists(st.tuples(UINT32, TEXTS), max_size=5)
"""Tokens, each with the text that it completes."""


def chunk_of(first_index: int, parts: list[tuple[int, str]]) -> TokenChunk:
    return TokenChunk(
        first_index=first_index,
        token_ids=tuple(token for token, _ in parts),
        text="".join(text for _, text in parts),
        text_lengths=tuple(len(text) for _, text in parts),
    )


CHUNKS = st.builds(TokenChunk, first_index=UINT32, token_ids=TOKEN_IDS, text=TEXTS) | st.builds(
    chunk_of, UINT32, CUT_TEXTS
)
PAYLOADS = st.builds(PayloadReference, object=TEXTS, size_bytes=UINT64, sha256=TEXTS)
FAILURES = st.builds(Failure, code=TEXTS, message=TEXTS, field=TEXTS, retry_after_s=SECONDS)
TRACES = st.builds(TraceContext, traceparent=TEXTS, tracestate=TEXTS)
POSITIONS = st.builds(QueuePosition, ahead=UINT32, estimated_wait_s=st.none() | SECONDS)
USAGES = st.builds(
    Usage,
    prompt_tokens=UINT32,
    output_tokens=st.integers(1, 9),
    queue_s=SECONDS,
    first_token_s=SECONDS,
    total_s=SECONDS,
    attempts=UINT32,
    resumptions=UINT32,
) | st.builds(Usage, prompt_tokens=UINT32, queue_s=SECONDS, total_s=SECONDS, attempts=UINT32)
OUTCOMES = st.builds(
    Outcome,
    request_id=TEXTS,
    kind=st.sampled_from(OutcomeKind),
    model=TEXTS,
    usage=USAGES,
    finish_reason=st.none() | st.sampled_from(FinishReason),
    failure=st.none() | FAILURES,
    text=TEXTS,
    token_ids=TOKEN_IDS,
    payload=st.none() | PAYLOADS,
    vectors=VECTORS,
    earlier_models=tuples(TEXTS),
) | st.builds(
    lambda chunk: Outcome(
        request_id="r",
        kind=OutcomeKind.COMPLETED,
        model="m",
        usage=Usage(),
        text=chunk.text,
        token_ids=chunk.token_ids,
        text_lengths=chunk.text_lengths,
    ),
    CHUNKS,
)
STREAM_ENDS = OUTCOMES.map(
    lambda outcome: replace(outcome, text="", token_ids=(), text_lengths=(), payload=None)
)
REQUESTS = st.builds(
    Request,
    id=IDS,
    tenant=NAMES,
    model=NAMES,
    priority=st.sampled_from(Priority),
    prompt=TEXTS,
    messages=tuples(st.builds(ChatMessage, role=TEXTS, content=TEXTS)),
    sampling=SAMPLINGS,
    max_tokens=UINT32,
    stop=tuples(TEXTS),
    deadline_s=st.none() | SECONDS,
    reply_to=TEXTS,
    gateway=TEXTS,
    task=st.sampled_from(Task),
    texts=tuples(TEXTS),
    source_language=TEXTS,
    target_language=TEXTS,
    payload=st.none() | PAYLOADS,
    keep=st.booleans(),
)
SHARES = st.floats(0, 1)
MODELS = st.builds(
    lambda alias, **fields: Model(
        alias=None if alias is None else replace(alias, name=fields["name"]), **fields
    ),
    name=TEXTS,
    version=TEXTS,
    task=st.sampled_from(Task),
    context_length=UINT32,
    lanes=UINT32,
    alias=st.none()
    | st.builds(
        Alias,
        name=TEXTS,
        stable=TEXTS,
        canary=TEXTS,
        share=SHARES,
        fallbacks=tuples(TEXTS),
        changed_s=SECONDS,
    ),
)
ACCEPTED = st.builds(Accepted, request_id=TEXTS, position=POSITIONS, model=TEXTS)
ATTACHMENTS = st.builds(
    Attachment, tenant=NAMES, request_id=IDS, from_index=UINT32, wait_s=st.none() | SECONDS
)
DEAD_LETTERS = st.builds(
    DeadLetter,
    request_id=TEXTS,
    subject=TEXTS,
    headers=st.dictionaries(TEXTS, TEXTS, max_size=3),
    body=st.binary(max_size=12),
    failure=FAILURES,
    attempts=UINT32,
    time_s=SECONDS,
    trace=TRACES,
)

# Work.

DEVICES = st.builds(
    Device,
    kind=TEXTS,
    index=UINT32,
    name=TEXTS,
    cores=UINT32,
    memory_bytes=UINT64,
    compute_types=tuples(TEXTS),
)
GRIDS = st.builds(CostGrid, batches=tuples(UINT32), contexts=tuples(UINT32), seconds=tuples(SECONDS))
COSTS = st.builds(ModelCost, step=GRIDS, prefill=GRIDS, load_s=SECONDS)
SERVED = st.builds(
    ServedModel,
    name=TEXTS,
    version=TEXTS,
    compute_type=TEXTS,
    cost=st.none() | COSTS,
    task=st.sampled_from(Task),
)
JOINS = st.builds(
    WorkerJoin,
    worker_id=TEXTS,
    name=TEXTS,
    version=TEXTS,
    device=DEVICES,
    lanes=UINT32,
    max_batch=UINT32,
    models=tuples(SERVED),
    labels=st.dictionaries(TEXTS, TEXTS, max_size=3),
    started_s=SECONDS,
    drain_grace_s=SECONDS,
    slots=UINT32,
    metrics=TEXTS,
    busy_lanes=tuples(UINT32),
)
ENDS = st.builds(
    EntryEnd,
    finish_reason=st.none() | st.sampled_from(FinishReason),
    failure=st.none() | FAILURES,
    cancelled=st.booleans(),
)
WORKER_MESSAGES = st.builds(
    WorkerMessage,
    join=st.none() | JOINS,
    progress=tuples(
        st.builds(
            EntryProgress,
            assignment=UINT64,
            tokens=st.none() | CHUNKS,
            end=st.none() | ENDS,
            vectors=VECTORS,
        )
    ),
    ended=tuples(st.builds(BatchEnded, batch=UINT64, lane=UINT32)),
    draining=st.booleans(),
    came=tuples(SERVED),
    went=tuples(TEXTS),
    coming=st.none()
    | tuples(st.builds(ComingModel, name=TEXTS, version=TEXTS, ready_in_s=st.none() | SECONDS)),
    spans=st.binary(max_size=12),
    freed=tuples(UINT32),
)
ENTRIES = st.builds(
    BatchEntry,
    assignment=UINT64,
    request_id=TEXTS,
    attempt=UINT32,
    prompt=TOKEN_IDS,
    generated=TOKEN_IDS,
    max_tokens=UINT32,
    stop=tuples(TEXTS),
    trace=TRACES,
    texts=tuples(TOKEN_IDS),
    target_prefix=TOKEN_IDS,
)
ROUTER_MESSAGES = st.builds(
    RouterMessage,
    welcome=TEXTS,
    start=tuples(
        st.builds(
            StartBatch,
            batch=UINT64,
            lane=UINT32,
            model=TEXTS,
            sampling=SAMPLINGS,
            entries=tuples(ENTRIES),
            static_tokens=UINT32,
        )
    ),
    cancel=tuples(UINT64),
    draining=st.booleans(),
    peers=st.none() | tuples(st.builds(Peer, router_id=TEXTS, address=TEXTS)),
    leave=st.booleans(),
    pause=tuples(UINT64),
    resume=tuples(UINT64),
    released=tuples(TEXTS),
    log_level=st.none() | st.sampled_from(LogLevel),
)

# Deliver.

HELD = st.builds(
    lambda request_id, tenant, chunk, model: HeldStream(
        request_id=request_id,
        tenant=tenant,
        first_index=chunk.first_index,
        token_ids=chunk.token_ids,
        text=chunk.text,
        text_lengths=chunk.text_lengths,
        model=model,
    ),
    TEXTS,
    TEXTS,
    CHUNKS,
    TEXTS,
)
GATEWAY_MESSAGES = st.builds(
    GatewayMessage,
    join=st.none() | st.builds(GatewayJoin, gateway_id=TEXTS, held=tuples(HELD)),
    left=tuples(TEXTS),
)
CLAIMS = st.builds(Claim, router_id=TEXTS, taken=st.booleans(), sequence=UINT64, everybody=st.booleans())
CLAIM_REPLIES = (st.builds(Running, sequence=UINT64) | st.builds(NotHere, router_id=TEXTS)) | st.builds(
    HandOver,
    output=st.none() | CHUNKS,
    attempts=UINT32,
    losses=UINT32,
    resumptions=UINT32,
    queue_s=st.none() | SECONDS,
    first_token_s=st.none() | SECONDS,
    releases=UINT32,
    gateways=tuples(TEXTS),
    model=TEXTS,
    earlier_models=tuples(TEXTS),
)
LOADS = st.builds(
    ModelLoad,
    model=MODELS,
    waiting=tuples(UINT32),
    seconds_per_request=st.floats(0, 1e6, width=32),
    free_lanes=UINT32,
    ready_in_s=st.none() | SECONDS,
)
DELIVERY_MESSAGES = st.builds(
    DeliveryMessage,
    welcome=TEXTS,
    catalogue=st.none() | tuples(LOADS),
    deliveries=tuples(
        st.builds(
            Delivery,
            request_id=TEXTS,
            tokens=st.none() | CHUNKS,
            finished=st.none() | STREAM_ENDS,
            queued=st.none() | POSITIONS,
            model=TEXTS,
        )
    ),
    draining=st.booleans(),
    recall=tuples(st.builds(Recall, request_id=TEXTS, tenant=TEXTS)),
)

# Administration.

MEMBERS = st.builds(
    Member,
    kind=st.sampled_from(MemberKind),
    id=TEXTS,
    address=TEXTS,
    started_s=SECONDS,
    draining=st.booleans(),
    requests=UINT32,
    router=TEXTS,
    lanes=UINT32,
    busy_lanes=UINT32,
    slots=UINT32,
    paused_lanes=UINT32,
    models=tuples(TEXTS),
    device=TEXTS,
    metrics=TEXTS,
)
DRAINS = st.tuples(st.none() | st.sampled_from(MemberKind), TEXTS)
LEVELS_ASKED = st.tuples(st.none() | st.sampled_from(MemberKind), TEXTS, st.sampled_from(LogLevel))
DRAINS_BEGUN = st.builds(DrainBegun, member=MEMBERS, grace_s=SECONDS)
