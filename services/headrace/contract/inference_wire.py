"""The public messages of InferenceService to values and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.contract.common_wire import (
    decode_duration,
    decode_message,
    decode_priority,
    decode_sampling,
    decode_timestamp,
    encode_chunk,
    encode_duration,
    encode_kind,
    encode_message,
    encode_outcome,
    encode_position,
    encode_priority,
    encode_sampling,
    encode_timestamp,
)
from headrace.contract.deliver import Model
from headrace.contract.deliver_wire import encode_model
from headrace.contract.errors import InvalidRequest
from headrace.contract.ids import check_request_id
from headrace.contract.requests import Request
from headrace.contract.subjects import check_name
from headrace.contract.values import Accepted, Outcome, OutcomeKind, QueuePosition, TokenChunk
from headrace.v1 import inference_pb2 as pb

DEFAULT_TENANT = "default"


def decode_generate(message: pb.GenerateRequest) -> Request:
    """The request that a client sent; its id may be empty. Raises InvalidRequest for names and enums that are none."""
    if not message.model:
        raise InvalidRequest("model", "is required; ListModels says which there are")
    if message.request_id:
        check_request_id("request_id", message.request_id)
    return Request(
        id=message.request_id,
        tenant=check_name("tenant", message.tenant or DEFAULT_TENANT),
        model=check_name("model", message.model),
        priority=decode_priority(message.priority),
        prompt=message.prompt,
        messages=tuple(decode_message(entry) for entry in message.messages),
        sampling=decode_sampling(message.sampling),
        max_tokens=message.max_tokens,
        stop=tuple(message.stop),
        deadline_s=decode_timestamp(message.deadline) if message.HasField("deadline") else None,
        keep=message.keep,
    )


def encode_generate(request: Request) -> pb.GenerateRequest:
    """For clients."""
    message = pb.GenerateRequest(
        request_id=request.id,
        tenant=request.tenant,
        model=request.model,
        priority=encode_priority(request.priority),
        prompt=request.prompt,
        messages=[encode_message(entry) for entry in request.messages],
        sampling=encode_sampling(request.sampling),
        max_tokens=request.max_tokens,
        stop=request.stop,
        keep=request.keep,
    )
    if request.deadline_s is not None:
        message.deadline.CopyFrom(encode_timestamp(request.deadline_s))
    return message


def decode_result_key(message: pb.GetResultRequest | pb.CancelRequest | pb.AttachRequest) -> tuple[str, str]:
    """(tenant, request id). Raises InvalidRequest."""
    return (
        check_name("tenant", message.tenant or DEFAULT_TENANT),
        check_request_id("request_id", message.request_id),
    )


def encode_accepted(request_id: str, position: QueuePosition, model: str = "") -> pb.Accepted:
    return pb.Accepted(request_id=request_id, position=encode_position(position), model=model)


def accepted_response(request_id: str, position: QueuePosition, model: str = "") -> pb.GenerateResponse:
    return pb.GenerateResponse(accepted=encode_accepted(request_id, position, model))


def queued_response(position: QueuePosition) -> pb.GenerateResponse:
    return pb.GenerateResponse(queued=encode_position(position))


def tokens_response(chunk: TokenChunk) -> pb.GenerateResponse:
    return pb.GenerateResponse(tokens=encode_chunk(chunk))


def finished_response(outcome: Outcome) -> pb.GenerateResponse:
    return pb.GenerateResponse(finished=encode_outcome(outcome, whole=False))


def generate_response(event: Accepted | QueuePosition | TokenChunk | Outcome) -> pb.GenerateResponse:
    """One event of the stream."""
    match event:
        case Accepted():
            return accepted_response(event.request_id, event.position, event.model)
        case TokenChunk():
            return tokens_response(event)
        case QueuePosition():
            return queued_response(event)
        case _:
            return finished_response(event)


def submit_response(request_id: str, position: QueuePosition, model: str = "") -> pb.SubmitResponse:
    return pb.SubmitResponse(accepted=encode_accepted(request_id, position, model))


def result_response(outcome: Outcome) -> pb.GetResultResponse:
    return pb.GetResultResponse(outcome=encode_outcome(outcome, whole=True))


def cancel_response(kind: OutcomeKind) -> pb.CancelResponse:
    return pb.CancelResponse(outcome=encode_kind(kind))


def models_response(models: Sequence[Model]) -> pb.ListModelsResponse:
    return pb.ListModelsResponse(models=[encode_model(model) for model in models])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Which request a client attaches to, from which token on, and how long it waits for one that nobody knows."""

    tenant: str
    request_id: str
    from_index: int = 0
    wait_s: float | None = None
    """None = the gateway's default."""


def decode_attach(message: pb.AttachRequest) -> Attachment:
    """Raises InvalidRequest."""
    tenant, request_id = decode_result_key(message)
    return Attachment(
        tenant=tenant,
        request_id=request_id,
        from_index=message.from_index,
        wait_s=decode_duration(message.wait) if message.HasField("wait") else None,
    )


def encode_attach(attachment: Attachment) -> pb.AttachRequest:
    """For clients."""
    message = pb.AttachRequest(
        tenant=attachment.tenant, request_id=attachment.request_id, from_index=attachment.from_index
    )
    if attachment.wait_s is not None:
        message.wait.CopyFrom(encode_duration(attachment.wait_s))
    return message


def attach_response(event: Accepted | QueuePosition | TokenChunk | Outcome) -> pb.AttachResponse:
    """One event of the stream, as Generate has it."""
    match event:
        case TokenChunk():
            return pb.AttachResponse(tokens=encode_chunk(event))
        case QueuePosition():
            return pb.AttachResponse(queued=encode_position(event))
        case Outcome():
            return pb.AttachResponse(finished=encode_outcome(event, whole=False))
        case _:
            return pb.AttachResponse(accepted=encode_accepted(event.request_id, event.position, event.model))
