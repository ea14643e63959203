"""What a router shows of itself, to protobuf and back."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from headrace.contract.common_wire import (
    decode_priority,
    decode_timestamp,
    encode_priority,
    encode_timestamp,
)
from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.state import (
    BatchState,
    ModelState,
    QueueState,
    RouterState,
    TimingState,
    TotalState,
    WorkerState,
)
from headrace.v1 import state_pb2 as pb


def encode_state(state: RouterState) -> bytes:
    """The message on `hr.v1.state.router.<id>`."""
    return state_message(state).SerializeToString()


def decode_state(body: bytes) -> RouterState:
    """Raises MalformedMessage."""
    message = pb.RouterState()
    try:
        message.ParseFromString(body)
        return state_of(message)
    except (DecodeError, InvalidRequest):
        raise MalformedMessage("state", "is not a RouterState") from None


def state_message(state: RouterState) -> pb.RouterState:
    return pb.RouterState(
        router=state.router,
        address=state.address,
        started=encode_timestamp(state.started_s),
        at=encode_timestamp(state.at_s),
        draining=state.draining,
        held=state.held,
        models=[_model(model) for model in state.models],
        workers=[_worker(worker) for worker in state.workers],
        queues=[_queue(queue) for queue in state.queues],
        totals=_totals(state.totals),
        timings=[_timing(timing) for timing in state.timings],
        workers_left_out=state.workers_left_out,
        queues_left_out=state.queues_left_out,
    )


def state_of(message: pb.RouterState) -> RouterState:
    """Raises InvalidRequest for a class that is none."""
    return RouterState(
        router=message.router,
        address=message.address,
        started_s=decode_timestamp(message.started),
        at_s=decode_timestamp(message.at),
        draining=message.draining,
        held=message.held,
        models=tuple(
            ModelState(name=m.name, version=m.version, task=m.task, context_length=m.context_length)
            for m in message.models
        ),
        workers=tuple(map(_worker_of, message.workers)),
        queues=tuple(map(_queue_of, message.queues)),
        totals=TotalState(
            tokens=message.totals.tokens,
            completed=message.totals.completed,
            failed=message.totals.failed,
            cancelled=message.totals.cancelled,
            expired=message.totals.expired,
            rejected=message.totals.rejected,
        ),
        timings=tuple(
            TimingState(
                priority=decode_priority(timing.priority),
                first_token=tuple(timing.first_token),
                inter_token=tuple(timing.inter_token),
            )
            for timing in message.timings
        ),
        workers_left_out=message.workers_left_out,
        queues_left_out=message.queues_left_out,
    )


def _model(model: ModelState) -> pb.ModelState:
    return pb.ModelState(
        name=model.name, version=model.version, task=model.task, context_length=model.context_length
    )


def _worker(worker: WorkerState) -> pb.WorkerState:
    return pb.WorkerState(
        id=worker.id,
        name=worker.name,
        device=worker.device,
        started=encode_timestamp(worker.started_s),
        draining=worker.draining,
        lanes=worker.lanes,
        slots=worker.slots,
        max_batch=worker.max_batch,
        models=worker.models,
        batches=[_batch(batch) for batch in worker.batches],
        batches_left_out=worker.batches_left_out,
    )


def _worker_of(message: pb.WorkerState) -> WorkerState:
    return WorkerState(
        id=message.id,
        name=message.name,
        device=message.device,
        started_s=decode_timestamp(message.started),
        draining=message.draining,
        lanes=message.lanes,
        slots=message.slots,
        max_batch=message.max_batch,
        models=tuple(message.models),
        batches=tuple(map(_batch_of, message.batches)),
        batches_left_out=message.batches_left_out,
    )


def _batch(batch: BatchState) -> pb.BatchState:
    return pb.BatchState(
        lane=batch.lane,
        batch=batch.batch,
        model=batch.model,
        priority=encode_priority(batch.priority),
        entries=batch.entries,
        context=batch.context,
        generated=batch.generated,
        started_ms=batch.started_ms,
        paused_ms=batch.paused_ms,
    )


def _batch_of(message: pb.BatchState) -> BatchState:
    return BatchState(
        lane=message.lane,
        batch=message.batch,
        model=message.model,
        priority=decode_priority(message.priority),
        entries=message.entries,
        context=message.context,
        generated=message.generated,
        started_ms=message.started_ms,
        paused_ms=message.paused_ms,
    )


def _queue(queue: QueueState) -> pb.QueueState:
    return pb.QueueState(
        model=queue.model,
        priority=encode_priority(queue.priority),
        tenant=queue.tenant,
        waiting=queue.waiting,
        backlog=queue.backlog,
        oldest_ms=queue.oldest_ms,
    )


def _queue_of(message: pb.QueueState) -> QueueState:
    return QueueState(
        model=message.model,
        priority=decode_priority(message.priority),
        tenant=message.tenant,
        waiting=message.waiting,
        backlog=message.backlog,
        oldest_ms=message.oldest_ms,
    )


def _totals(totals: TotalState) -> pb.TotalState:
    return pb.TotalState(
        tokens=totals.tokens,
        completed=totals.completed,
        failed=totals.failed,
        cancelled=totals.cancelled,
        expired=totals.expired,
        rejected=totals.rejected,
    )


def _timing(timing: TimingState) -> pb.TimingState:
    return pb.TimingState(
        priority=encode_priority(timing.priority),
        first_token=timing.first_token,
        inter_token=timing.inter_token,
    )
