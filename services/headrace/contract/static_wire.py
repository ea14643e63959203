"""What AdminService says of static prompts, to protobuf and back."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.contract.static import StaticCounts, StaticPrompts
from headrace.v1 import admin_pb2 as pb


def _encode(statics: StaticPrompts) -> pb.StaticPrompts:
    return pb.StaticPrompts(model=statics.model, prompts=statics.prompts)


def _decode(message: pb.StaticPrompts) -> StaticPrompts:
    return StaticPrompts(model=message.model, prompts=tuple(message.prompts))


def encode_static_counts(counts: StaticCounts) -> pb.StaticCounts:
    return pb.StaticCounts(model=counts.model, hits=counts.hits, misses=counts.misses, tokens=counts.tokens)


def decode_static_counts(message: pb.StaticCounts) -> StaticCounts:
    return StaticCounts(model=message.model, hits=message.hits, misses=message.misses, tokens=message.tokens)


def encode_list_statics() -> pb.ListStaticPromptsRequest:
    return pb.ListStaticPromptsRequest()


def statics_response(
    statics: Iterable[StaticPrompts], counts: Iterable[StaticCounts]
) -> pb.ListStaticPromptsResponse:
    return pb.ListStaticPromptsResponse(
        models=map(_encode, statics), counts=map(encode_static_counts, counts)
    )


def decode_statics_response(
    message: pb.ListStaticPromptsResponse,
) -> tuple[tuple[StaticPrompts, ...], tuple[StaticCounts, ...]]:
    return tuple(map(_decode, message.models)), tuple(map(decode_static_counts, message.counts))


def encode_set_statics(statics: StaticPrompts) -> pb.SetStaticPromptsRequest:
    return pb.SetStaticPromptsRequest(static=_encode(statics))


def set_statics_response(statics: StaticPrompts) -> pb.SetStaticPromptsResponse:
    return pb.SetStaticPromptsResponse(static=_encode(statics))


def decode_set_statics(message: pb.SetStaticPromptsRequest | pb.SetStaticPromptsResponse) -> StaticPrompts:
    return _decode(message.static)
