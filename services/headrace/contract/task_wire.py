"""The public messages of the tasks besides generate to values and back."""

from __future__ import annotations

from headrace.contract.common_wire import (
    decode_outcome,
    decode_priority,
    decode_sampling,
    decode_timestamp,
    encode_chunk,
    encode_outcome,
    encode_position,
    encode_priority,
    encode_sampling,
    encode_timestamp,
)
from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.ids import check_request_id
from headrace.contract.inference_wire import (
    DEFAULT_TENANT,
    decode_generate,
    encode_accepted,
    encode_generate,
)
from headrace.contract.requests import Request
from headrace.contract.subjects import check_name
from headrace.contract.values import Accepted, Outcome, QueuePosition, Task, TokenChunk
from headrace.v1 import inference_pb2 as pb


def decode_embed(message: pb.EmbedRequest) -> Request:
    """The request that a client sent; its id may be empty. Raises InvalidRequest for names and enums that are none."""
    _check_names(message)
    return Request(
        id=message.request_id,
        tenant=message.tenant or DEFAULT_TENANT,
        model=message.model,
        priority=decode_priority(message.priority),
        task=Task.EMBED,
        texts=tuple(message.texts),
        deadline_s=decode_timestamp(message.deadline) if message.HasField("deadline") else None,
        keep=message.keep,
    )


def encode_embed(request: Request) -> pb.EmbedRequest:
    """For clients."""
    message = pb.EmbedRequest(
        request_id=request.id,
        tenant=request.tenant,
        model=request.model,
        priority=encode_priority(request.priority),
        texts=request.texts,
        keep=request.keep,
    )
    if request.deadline_s is not None:
        message.deadline.CopyFrom(encode_timestamp(request.deadline_s))
    return message


def decode_translate(message: pb.TranslateRequest) -> Request:
    """The request that a client sent; its id may be empty. Raises InvalidRequest for names and enums that are none."""
    _check_names(message)
    return Request(
        id=message.request_id,
        tenant=message.tenant or DEFAULT_TENANT,
        model=message.model,
        priority=decode_priority(message.priority),
        task=Task.TRANSLATE,
        prompt=message.prompt,
        source_language=message.source_language,
        target_language=message.target_language,
        sampling=decode_sampling(message.sampling),
        max_tokens=message.max_tokens,
        stop=tuple(message.stop),
        deadline_s=decode_timestamp(message.deadline) if message.HasField("deadline") else None,
        keep=message.keep,
    )


def encode_translate(request: Request) -> pb.TranslateRequest:
    """For clients."""
    message = pb.TranslateRequest(
        request_id=request.id,
        tenant=request.tenant,
        model=request.model,
        priority=encode_priority(request.priority),
        prompt=request.prompt,
        source_language=request.source_language,
        target_language=request.target_language,
        sampling=encode_sampling(request.sampling),
        max_tokens=request.max_tokens,
        stop=request.stop,
        keep=request.keep,
    )
    if request.deadline_s is not None:
        message.deadline.CopyFrom(encode_timestamp(request.deadline_s))
    return message


def encode_submit(request: Request) -> pb.SubmitRequest:
    """For clients."""
    match request.task:
        case Task.EMBED:
            return pb.SubmitRequest(embed=encode_embed(request))
        case Task.TRANSLATE:
            return pb.SubmitRequest(translate=encode_translate(request))
        case _:
            return pb.SubmitRequest(request=encode_generate(request))


def decode_submit(message: pb.SubmitRequest) -> Request:
    """The request that a client sent. Raises as the decoder of its task."""
    match message.WhichOneof("task"):
        case "embed":
            return decode_embed(message.embed)
        case "translate":
            return decode_translate(message.translate)
        case _:
            return decode_generate(message.request)


def translate_response(event: Accepted | QueuePosition | TokenChunk | Outcome) -> pb.TranslateResponse:
    """One event of the stream, as Generate has it."""
    match event:
        case TokenChunk():
            return pb.TranslateResponse(tokens=encode_chunk(event))
        case QueuePosition():
            return pb.TranslateResponse(queued=encode_position(event))
        case Outcome():
            return pb.TranslateResponse(finished=encode_outcome(event, whole=False))
        case _:
            return pb.TranslateResponse(
                accepted=encode_accepted(event.request_id, event.position, event.model)
            )


def embed_response(outcome: Outcome) -> pb.EmbedResponse:
    return pb.EmbedResponse(outcome=encode_outcome(outcome, whole=True))


def decode_embed_response(message: pb.EmbedResponse) -> Outcome:
    """Raises MalformedMessage where it holds no outcome."""
    if not message.HasField("outcome"):
        raise MalformedMessage("EmbedResponse", "holds no outcome")
    return decode_outcome(message.outcome)


def _check_names(message: pb.EmbedRequest | pb.TranslateRequest) -> None:
    if not message.model:
        raise InvalidRequest("model", "is required; ListModels says which there are")
    if message.request_id:
        check_request_id("request_id", message.request_id)
    check_name("tenant", message.tenant or DEFAULT_TENANT)
    check_name("model", message.model)
