"""The common values to protobuf and back."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.requests import ChatMessage
from headrace.contract.values import (
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
from headrace.contract.vector_wire import add_vectors, decode_vector
from headrace.v1 import common_pb2 as pb

_PRIORITY = {
    pb.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    pb.PRIORITY_REALTIME: Priority.REALTIME,
    pb.PRIORITY_HIGH: Priority.HIGH,
    pb.PRIORITY_NORMAL: Priority.NORMAL,
    pb.PRIORITY_BATCH: Priority.BATCH,
}
_PRIORITY_OUT = {value: key for key, value in _PRIORITY.items() if key != pb.PRIORITY_UNSPECIFIED}
_TASK = {
    pb.TASK_UNSPECIFIED: Task.GENERATE,
    pb.TASK_GENERATE: Task.GENERATE,
    pb.TASK_EMBED: Task.EMBED,
    pb.TASK_TRANSLATE: Task.TRANSLATE,
}
_TASK_OUT = {value: key for key, value in _TASK.items() if key != pb.TASK_UNSPECIFIED}
_FINISH = {
    FinishReason.END: pb.FINISH_REASON_END,
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}
_FINISH_IN = {value: key for key, value in _FINISH.items()}
_KIND = {
    OutcomeKind.COMPLETED: pb.OUTCOME_KIND_COMPLETED,
    OutcomeKind.FAILED: pb.OUTCOME_KIND_FAILED,
    OutcomeKind.CANCELLED: pb.OUTCOME_KIND_CANCELLED,
    OutcomeKind.EXPIRED: pb.OUTCOME_KIND_EXPIRED,
    OutcomeKind.REJECTED: pb.OUTCOME_KIND_REJECTED,
}
_KIND_IN = {value: key for key, value in _KIND.items()}


def encode_priority(priority: Priority) -> pb.Priority.ValueType:
    return _PRIORITY_OUT[priority]


def decode_priority(number: pb.Priority.ValueType) -> Priority:
    """Raises InvalidRequest("priority") for a number that is no priority."""
    try:
        return _PRIORITY[number]
    except KeyError:
        allowed = ", ".join(p.label for p in Priority)
        raise InvalidRequest("priority", f"must be one of {allowed} (was number {number})") from None


def encode_task(task: Task) -> pb.Task.ValueType:
    return _TASK_OUT[task]


def decode_task(number: pb.Task.ValueType) -> Task:
    """Raises InvalidRequest("task") for a number that is no task."""
    try:
        return _TASK[number]
    except KeyError:
        raise InvalidRequest("task", f"must be one of {', '.join(t.value for t in Task)}") from None


def encode_finish(reason: FinishReason | None) -> pb.FinishReason.ValueType:
    return pb.FINISH_REASON_UNSPECIFIED if reason is None else _FINISH[reason]


def decode_finish(number: pb.FinishReason.ValueType) -> FinishReason | None:
    return _FINISH_IN.get(number)


def encode_kind(kind: OutcomeKind) -> pb.OutcomeKind.ValueType:
    return _KIND[kind]


def decode_kind(number: pb.OutcomeKind.ValueType) -> OutcomeKind:
    """An unknown kind, from a newer process, reads as FAILED."""
    return _KIND_IN.get(number, OutcomeKind.FAILED)


def encode_duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(max(0.0, seconds) * 1e9))
    return duration


def decode_duration(duration: Duration) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def encode_timestamp(unix_s: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromNanoseconds(round(unix_s * 1e9))
    return timestamp


def decode_timestamp(timestamp: Timestamp) -> float:
    return float(timestamp.seconds + timestamp.nanos / 1e9)


def encode_sampling(sampling: Sampling) -> pb.Sampling:
    return pb.Sampling(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        ignore_end=sampling.ignore_end,
        beam_size=0 if sampling.beam_size == 1 else sampling.beam_size,
    )


def decode_sampling(message: pb.Sampling) -> Sampling:
    """Floats are rounded to 6 places: 0.7 as a 32-bit float must equal 0.7, for sampling is the batching key."""
    return Sampling(
        temperature=round(message.temperature, 6),
        top_k=message.top_k,
        top_p=round(message.top_p, 6) if message.HasField("top_p") else 1.0,
        repetition_penalty=(
            round(message.repetition_penalty, 6) if message.HasField("repetition_penalty") else 1.0
        ),
        ignore_end=message.ignore_end,
        beam_size=message.beam_size or 1,
    )


def encode_message(message: ChatMessage) -> pb.ChatMessage:
    return pb.ChatMessage(role=message.role, content=message.content)


def decode_message(message: pb.ChatMessage) -> ChatMessage:
    return ChatMessage(role=message.role, content=message.content)


def encode_chunk(chunk: TokenChunk) -> pb.TokenChunk:
    return pb.TokenChunk(
        first_index=chunk.first_index,
        token_ids=chunk.token_ids,
        text=chunk.text,
        text_lengths=chunk.text_lengths,
    )


def decode_chunk(message: pb.TokenChunk) -> TokenChunk:
    """Raises MalformedMessage where the text's lengths are not those of its tokens."""
    token_ids, text = tuple(message.token_ids), message.text
    return TokenChunk(
        first_index=message.first_index,
        token_ids=token_ids,
        text=text,
        text_lengths=decode_lengths(message.text_lengths, token_ids, text),
    )


def decode_lengths(lengths: Sequence[int], token_ids: Sequence[int], text: str) -> tuple[int, ...]:
    """Raises MalformedMessage where there are some, and not one for each token, or not those of the text."""
    if lengths and (len(lengths) != len(token_ids) or sum(lengths) != len(text)):
        raise MalformedMessage("text_lengths", "are not those of the tokens' text")
    return tuple(lengths)


def encode_payload(payload: PayloadReference) -> pb.PayloadReference:
    return pb.PayloadReference(object=payload.object, size_bytes=payload.size_bytes, sha256=payload.sha256)


def decode_payload(message: pb.PayloadReference) -> PayloadReference:
    return PayloadReference(object=message.object, size_bytes=message.size_bytes, sha256=message.sha256)


def encode_failure(failure: Failure) -> pb.Error:
    message = pb.Error(code=failure.code, message=failure.message, field=failure.field)
    if failure.retry_after_s > 0:
        message.retry_after.CopyFrom(encode_duration(failure.retry_after_s))
    return message


def decode_failure(message: pb.Error) -> Failure:
    return Failure(
        code=message.code,
        message=message.message,
        field=message.field,
        retry_after_s=decode_duration(message.retry_after),
    )


def encode_usage(usage: Usage) -> pb.Usage:
    message = pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.output_tokens,
        queue_time=encode_duration(usage.queue_s),
        total_time=encode_duration(usage.total_s),
        attempts=usage.attempts,
        resumptions=usage.resumptions,
    )
    if usage.output_tokens:
        message.first_token_time.CopyFrom(encode_duration(usage.first_token_s))
    return message


def decode_usage(message: pb.Usage) -> Usage:
    return Usage(
        prompt_tokens=message.prompt_tokens,
        output_tokens=message.output_tokens,
        queue_s=decode_duration(message.queue_time),
        first_token_s=decode_duration(message.first_token_time),
        total_s=decode_duration(message.total_time),
        attempts=message.attempts,
        resumptions=message.resumptions,
    )


def encode_outcome(outcome: Outcome, *, whole: bool) -> pb.Outcome:
    """`whole` adds text and token ids: for the durable outcome, not for the end of a stream that carried them. Vectors
    are not streamed, so the end of a stream has them too.
    """
    message = pb.Outcome(
        request_id=outcome.request_id,
        kind=encode_kind(outcome.kind),
        finish_reason=encode_finish(outcome.finish_reason),
        usage=encode_usage(outcome.usage),
        model=outcome.model,
        earlier_models=outcome.earlier_models,
    )
    if outcome.failure is not None:
        message.error.CopyFrom(encode_failure(outcome.failure))
    if whole:
        message.text = outcome.text
        message.token_ids.extend(outcome.token_ids)
        message.text_lengths.extend(outcome.text_lengths)
        if outcome.payload is not None:
            message.payload.CopyFrom(encode_payload(outcome.payload))
    if outcome.vectors:
        add_vectors(message.embeddings, outcome.vectors)
    return message


def decode_outcome(message: pb.Outcome) -> Outcome:
    """Raises MalformedMessage where the text's lengths are not those of its tokens."""
    token_ids = tuple(message.token_ids)
    return Outcome(
        request_id=message.request_id,
        kind=decode_kind(message.kind),
        model=message.model,
        usage=decode_usage(message.usage),
        finish_reason=decode_finish(message.finish_reason),
        failure=decode_failure(message.error) if message.HasField("error") else None,
        text=message.text,
        token_ids=token_ids,
        text_lengths=decode_lengths(message.text_lengths, token_ids, message.text),
        payload=decode_payload(message.payload) if message.HasField("payload") else None,
        vectors=tuple(map(decode_vector, message.embeddings)),
        earlier_models=tuple(message.earlier_models),
    )


def encode_position(position: QueuePosition) -> pb.QueuePosition:
    message = pb.QueuePosition(ahead=position.ahead)
    if position.estimated_wait_s is not None:
        message.estimated_wait.CopyFrom(encode_duration(position.estimated_wait_s))
    return message


def decode_position(message: pb.QueuePosition) -> QueuePosition:
    wait = decode_duration(message.estimated_wait) if message.HasField("estimated_wait") else None
    return QueuePosition(ahead=message.ahead, estimated_wait_s=wait)


def encode_trace(trace: TraceContext) -> pb.TraceContext:
    return pb.TraceContext(traceparent=trace.traceparent, tracestate=trace.tracestate)


def decode_trace(message: pb.TraceContext) -> TraceContext:
    return TraceContext(traceparent=message.traceparent, tracestate=message.tracestate)
