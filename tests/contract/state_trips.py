"""What a router shows of itself, with the values it carries and the way there and back."""

from __future__ import annotations

from hypothesis import strategies as st

from headrace.contract import state_wire as wire
from headrace.contract.state import (
    BatchState,
    ModelState,
    QueueState,
    RouterState,
    TimingState,
    TotalState,
    WorkerState,
)
from headrace.contract.values import Priority
from headrace.v1 import state_pb2
from tests.contract.strategies import SECONDS, TEXTS, UINT32, UINT64, tuples

PRIORITIES = st.sampled_from(Priority)
BATCHES = st.builds(
    BatchState,
    lane=UINT32,
    batch=UINT64,
    model=UINT32,
    priority=PRIORITIES,
    entries=UINT32,
    context=UINT32,
    generated=UINT32,
    started_ms=UINT64,
    paused_ms=UINT64,
)
WORKERS = st.builds(
    WorkerState,
    id=TEXTS,
    name=TEXTS,
    device=TEXTS,
    started_s=SECONDS,
    draining=st.booleans(),
    lanes=UINT32,
    slots=UINT32,
    max_batch=UINT32,
    models=tuples(UINT32),
    batches=tuples(BATCHES),
    batches_left_out=UINT32,
)
QUEUES = st.builds(
    QueueState,
    model=TEXTS,
    priority=PRIORITIES,
    tenant=TEXTS,
    waiting=UINT32,
    backlog=UINT32,
    oldest_ms=UINT64,
)
STATES = st.builds(
    RouterState,
    router=TEXTS,
    address=TEXTS,
    started_s=SECONDS,
    at_s=SECONDS,
    draining=st.booleans(),
    held=UINT32,
    models=tuples(st.builds(ModelState, name=TEXTS, version=TEXTS, task=TEXTS, context_length=UINT32)),
    workers=tuples(WORKERS),
    queues=tuples(QUEUES),
    totals=st.builds(TotalState, tokens=UINT64, completed=UINT64, failed=UINT64),
    timings=tuples(
        st.builds(TimingState, priority=PRIORITIES, first_token=tuples(UINT64), inter_token=tuples(UINT64))
    ),
    workers_left_out=UINT32,
    queues_left_out=UINT32,
)
STATE_TRIPS = [(state_pb2.RouterState, STATES, wire.state_message, wire.state_of)]
