"""InferenceService as a client sees it: its calls from values, its answers to values."""

from __future__ import annotations

from headrace.contract.common_wire import (
    decode_chunk,
    decode_kind,
    decode_outcome,
    decode_position,
    encode_duration,
)
from headrace.contract.deliver import Model
from headrace.contract.deliver_wire import decode_model
from headrace.contract.errors import MalformedMessage
from headrace.contract.values import Accepted, Outcome, OutcomeKind, QueuePosition, TokenChunk
from headrace.v1 import inference_pb2 as pb


def decode_accepted(message: pb.Accepted) -> Accepted:
    return Accepted(
        request_id=message.request_id, position=decode_position(message.position), model=message.model
    )


def decode_generate_response(
    message: pb.GenerateResponse | pb.AttachResponse | pb.TranslateResponse,
) -> Accepted | QueuePosition | TokenChunk | Outcome | None:
    """The event of a response; None for one that this version does not know."""
    match message.WhichOneof("event"):
        case "accepted":
            return decode_accepted(message.accepted)
        case "queued":
            return decode_position(message.queued)
        case "tokens":
            return decode_chunk(message.tokens)
        case "finished":
            return decode_outcome(message.finished)
        case _:
            return None


def decode_submit_response(message: pb.SubmitResponse) -> Accepted:
    return decode_accepted(message.accepted)


def encode_get_result(tenant: str, request_id: str, wait_s: float) -> pb.GetResultRequest:
    return pb.GetResultRequest(tenant=tenant, request_id=request_id, wait=encode_duration(wait_s))


def decode_result_response(message: pb.GetResultResponse) -> Outcome:
    """Raises MalformedMessage where it holds no outcome."""
    if not message.HasField("outcome"):
        raise MalformedMessage("GetResultResponse", "holds no outcome")
    return decode_outcome(message.outcome)


def encode_cancel(tenant: str, request_id: str) -> pb.CancelRequest:
    return pb.CancelRequest(tenant=tenant, request_id=request_id)


def decode_cancel_response(message: pb.CancelResponse) -> OutcomeKind:
    return decode_kind(message.outcome)


def encode_list_models() -> pb.ListModelsRequest:
    return pb.ListModelsRequest()


def decode_models_response(message: pb.ListModelsResponse) -> tuple[Model, ...]:
    """Those that this version could ask for."""
    return tuple(model for sent in message.models if (model := decode_model(sent)) is not None)
