"""The messages of `Work` to protobuf and back. `encode_worker_message` is on the hot path: once per step and lane."""

from __future__ import annotations

from headrace.contract.common_wire import (
    decode_chunk,
    decode_duration,
    decode_failure,
    decode_finish,
    decode_sampling,
    decode_task,
    decode_timestamp,
    decode_trace,
    encode_duration,
    encode_failure,
    encode_finish,
    encode_sampling,
    encode_task,
    encode_timestamp,
    encode_trace,
)
from headrace.contract.costs import CostGrid, ModelCost
from headrace.contract.device_wire import decode_device, encode_device
from headrace.contract.log_level import encode_log_level, known_log_level
from headrace.contract.work import (
    BatchEnded,
    BatchEntry,
    ComingModel,
    EntryEnd,
    EntryProgress,
    Peer,
    RouterMessage,
    ServedModel,
    StartBatch,
    WorkerJoin,
    WorkerMessage,
)
from headrace.v1 import router_pb2 as pb


def encode_worker_message(message: WorkerMessage) -> pb.WorkerMessage:
    out = pb.WorkerMessage(draining=message.draining, spans=message.spans, freed=message.freed)
    if message.join is not None:
        out.join.CopyFrom(_encode_join(message.join))
    for progress in message.progress:
        entry = out.progress.add(assignment=progress.assignment)
        if (chunk := progress.tokens) is not None:
            tokens = entry.tokens  # filled in place: a third of the time that making and copying one takes
            tokens.first_index = chunk.first_index
            tokens.token_ids.extend(chunk.token_ids)
            tokens.text = chunk.text
            tokens.text_lengths.extend(chunk.text_lengths)
        if progress.end is not None:
            entry.end.CopyFrom(_encode_end(progress.end))
        if progress.vectors:
            entry.vectors.extend(progress.vectors)
    for ended in message.ended:
        out.ended.add(batch=ended.batch, lane=ended.lane)
    if message.came:
        out.came.extend(map(_encode_served, message.came))
    out.went.extend(message.went)
    if message.coming is not None:
        out.coming.models.extend(map(_encode_coming, message.coming))
        out.coming.SetInParent()
    return out


def decode_worker_message(message: pb.WorkerMessage) -> WorkerMessage:
    return WorkerMessage(
        join=_decode_join(message.join) if message.HasField("join") else None,
        progress=tuple(
            EntryProgress(
                assignment=entry.assignment,
                tokens=decode_chunk(entry.tokens) if entry.HasField("tokens") else None,
                end=_decode_end(entry.end) if entry.HasField("end") else None,
                vectors=tuple(entry.vectors),
            )
            for entry in message.progress
        ),
        ended=tuple(BatchEnded(batch=ended.batch, lane=ended.lane) for ended in message.ended),
        draining=message.draining,
        came=tuple(map(_decode_served, message.came)),
        went=tuple(message.went),
        coming=tuple(map(_decode_coming, message.coming.models)) if message.HasField("coming") else None,
        spans=message.spans,
        freed=tuple(message.freed),
    )


def encode_router_message(message: RouterMessage) -> pb.RouterMessage:
    out = pb.RouterMessage(
        start=[_encode_start(start) for start in message.start],
        cancel=message.cancel,
        draining=message.draining,
        leave=message.leave,
        pause=message.pause,
        resume=message.resume,
        released=message.released,
        log_level=encode_log_level(message.log_level),
    )
    if message.welcome:
        out.welcome.router_id = message.welcome
    if message.peers is not None:
        out.peers.routers.extend(
            pb.Peer(router_id=peer.router_id, address=peer.address) for peer in message.peers
        )
        out.peers.SetInParent()
    return out


def decode_router_message(message: pb.RouterMessage) -> RouterMessage:
    return RouterMessage(
        welcome=message.welcome.router_id,
        start=tuple(_decode_start(start) for start in message.start),
        cancel=tuple(message.cancel),
        draining=message.draining,
        peers=(
            tuple(Peer(router_id=peer.router_id, address=peer.address) for peer in message.peers.routers)
            if message.HasField("peers")
            else None
        ),
        leave=message.leave,
        pause=tuple(message.pause),
        resume=tuple(message.resume),
        released=tuple(message.released),
        log_level=known_log_level(message.log_level),
    )


def _encode_join(join: WorkerJoin) -> pb.WorkerJoin:
    return pb.WorkerJoin(
        worker_id=join.worker_id,
        name=join.name,
        version=join.version,
        device=encode_device(join.device),
        labels=dict(join.labels),
        lanes=join.lanes,
        max_batch=join.max_batch,
        models=[_encode_served(model) for model in join.models],
        started=encode_timestamp(join.started_s),
        drain_grace=encode_duration(join.drain_grace_s),
        slots=join.slots,
        metrics=join.metrics,
        busy_lanes=join.busy_lanes,
    )


def _decode_join(message: pb.WorkerJoin) -> WorkerJoin:
    return WorkerJoin(
        worker_id=message.worker_id,
        name=message.name,
        version=message.version,
        device=decode_device(message.device),
        labels=dict(message.labels),
        lanes=message.lanes,
        max_batch=message.max_batch,
        models=tuple(map(_decode_served, message.models)),
        started_s=decode_timestamp(message.started),
        drain_grace_s=decode_duration(message.drain_grace),
        slots=message.slots,
        metrics=message.metrics,
        busy_lanes=tuple(message.busy_lanes),
    )


def _encode_served(model: ServedModel) -> pb.ServedModel:
    message = pb.ServedModel(
        name=model.name,
        version=model.version,
        compute_type=model.compute_type,
        task=encode_task(model.task),
    )
    if (cost := model.cost) is not None:
        message.cost.step.CopyFrom(_encode_grid(cost.step))
        message.cost.prefill.CopyFrom(_encode_grid(cost.prefill))
        message.cost.load_s = cost.load_s
    return message


def _decode_served(message: pb.ServedModel) -> ServedModel:
    cost = message.cost
    return ServedModel(
        name=message.name,
        version=message.version,
        compute_type=message.compute_type,
        cost=(
            ModelCost(step=_decode_grid(cost.step), prefill=_decode_grid(cost.prefill), load_s=cost.load_s)
            if message.HasField("cost")
            else None
        ),
        task=decode_task(message.task),
    )


def _encode_coming(model: ComingModel) -> pb.ComingModel:
    message = pb.ComingModel(name=model.name, version=model.version)
    if model.ready_in_s is not None:
        message.ready_in.CopyFrom(encode_duration(model.ready_in_s))
    return message


def _decode_coming(message: pb.ComingModel) -> ComingModel:
    return ComingModel(
        name=message.name,
        version=message.version,
        ready_in_s=decode_duration(message.ready_in) if message.HasField("ready_in") else None,
    )


def _encode_grid(grid: CostGrid) -> pb.CostGrid:
    return pb.CostGrid(batches=grid.batches, contexts=grid.contexts, seconds=grid.seconds)


def _decode_grid(message: pb.CostGrid) -> CostGrid:
    return CostGrid(
        batches=tuple(message.batches), contexts=tuple(message.contexts), seconds=tuple(message.seconds)
    )


def _encode_end(end: EntryEnd) -> pb.EntryEnd:
    message = pb.EntryEnd(finish_reason=encode_finish(end.finish_reason), cancelled=end.cancelled)
    if end.failure is not None:
        message.error.CopyFrom(encode_failure(end.failure))
    return message


def _decode_end(message: pb.EntryEnd) -> EntryEnd:
    return EntryEnd(
        finish_reason=decode_finish(message.finish_reason),
        failure=decode_failure(message.error) if message.HasField("error") else None,
        cancelled=message.cancelled,
    )


def _encode_start(start: StartBatch) -> pb.StartBatch:
    return pb.StartBatch(
        batch=start.batch,
        lane=start.lane,
        model=start.model,
        sampling=encode_sampling(start.sampling),
        static_tokens=start.static_tokens,
        entries=[
            pb.BatchEntry(
                assignment=entry.assignment,
                request_id=entry.request_id,
                attempt=entry.attempt,
                prompt=entry.prompt,
                generated=entry.generated,
                max_tokens=entry.max_tokens,
                stop=entry.stop,
                trace=encode_trace(entry.trace),
                texts=[pb.TokenisedText(token_ids=text) for text in entry.texts],
                target_prefix=entry.target_prefix,
            )
            for entry in start.entries
        ],
    )


def _decode_start(message: pb.StartBatch) -> StartBatch:
    return StartBatch(
        batch=message.batch,
        lane=message.lane,
        model=message.model,
        sampling=decode_sampling(message.sampling),
        static_tokens=message.static_tokens,
        entries=tuple(
            BatchEntry(
                assignment=entry.assignment,
                request_id=entry.request_id,
                attempt=entry.attempt,
                prompt=tuple(entry.prompt),
                generated=tuple(entry.generated),
                max_tokens=entry.max_tokens,
                stop=tuple(entry.stop),
                trace=decode_trace(entry.trace),
                texts=tuple(tuple(text.token_ids) for text in entry.texts),
                target_prefix=tuple(entry.target_prefix),
            )
            for entry in message.entries
        ),
    )
