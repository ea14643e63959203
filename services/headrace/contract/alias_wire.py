"""What AdminService says of aliases, and routers on `hr.v1.admin.rollout`, to protobuf and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from google.protobuf.message import DecodeError

from headrace.contract.alias import Alias
from headrace.contract.common_wire import decode_timestamp, encode_timestamp
from headrace.contract.errors import MalformedMessage
from headrace.contract.rollout import AliasState, RolloutCounts, ShadowCounts, VersionCounts
from headrace.contract.static_wire import decode_static_counts, encode_static_counts
from headrace.v1 import admin_pb2 as pb


def encode_alias_message(alias: Alias, revision: int) -> pb.Alias:
    return pb.Alias(
        name=alias.name,
        stable=alias.stable,
        canary=alias.canary,
        share=alias.share,
        fallbacks=alias.fallbacks,
        shadow=alias.shadow,
        shadow_share=alias.shadow_share,
        previous=alias.previous,
        changed=encode_timestamp(alias.changed_s),
        note=alias.note,
        revision=revision,
    )


def decode_alias_message(message: pb.Alias) -> Alias:
    return Alias(
        name=message.name,
        stable=message.stable,
        canary=message.canary,
        share=message.share,
        fallbacks=tuple(message.fallbacks),
        shadow=message.shadow,
        shadow_share=message.shadow_share,
        previous=message.previous,
        changed_s=decode_timestamp(message.changed),
        note=message.note,
    )


def _encode_version(counts: VersionCounts) -> pb.VersionCounts:
    return pb.VersionCounts(
        alias=counts.alias,
        model=counts.model,
        answered=counts.answered,
        failed=counts.failed,
        late=counts.late,
        first_token_s=counts.first_token_s,
        first_tokens=counts.first_tokens,
    )


def _decode_version(message: pb.VersionCounts) -> VersionCounts:
    return VersionCounts(
        alias=message.alias,
        model=message.model,
        answered=message.answered,
        failed=message.failed,
        late=message.late,
        first_token_s=message.first_token_s,
        first_tokens=message.first_tokens,
    )


def _encode_shadow(counts: ShadowCounts) -> pb.ShadowCounts:
    return pb.ShadowCounts(
        alias=counts.alias,
        model=counts.model,
        copies=counts.copies,
        dropped=counts.dropped,
        failed=counts.failed,
        same=counts.same,
        different=counts.different,
        same_tokens=counts.same_tokens,
        tokens=counts.tokens,
        answer_s=counts.answer_s,
        answer_s_of_client=counts.answer_s_of_client,
        answers=counts.answers,
    )


def _decode_shadow(message: pb.ShadowCounts) -> ShadowCounts:
    return ShadowCounts(
        alias=message.alias,
        model=message.model,
        copies=message.copies,
        dropped=message.dropped,
        failed=message.failed,
        same=message.same,
        different=message.different,
        same_tokens=message.same_tokens,
        tokens=message.tokens,
        answer_s=message.answer_s,
        answer_s_of_client=message.answer_s_of_client,
        answers=message.answers,
    )


def aliases_response(states: Iterable[AliasState]) -> pb.ListAliasesResponse:
    return pb.ListAliasesResponse(
        aliases=[
            pb.AliasState(
                alias=encode_alias_message(state.alias, state.revision),
                versions=map(_encode_version, state.counts.versions),
                shadows=map(_encode_shadow, state.counts.shadows),
            )
            for state in states
        ]
    )


def decode_aliases_response(message: pb.ListAliasesResponse) -> tuple[AliasState, ...]:
    return tuple(
        AliasState(
            alias=decode_alias_message(state.alias),
            revision=state.alias.revision,
            counts=RolloutCounts(
                versions=tuple(map(_decode_version, state.versions)),
                shadows=tuple(map(_decode_shadow, state.shadows)),
            ),
        )
        for state in message.aliases
    )


def encode_rollout(counts: RolloutCounts) -> bytes:
    """The answer on `hr.v1.admin.rollout`."""
    return pb.RolloutReply(
        versions=map(_encode_version, counts.versions),
        shadows=map(_encode_shadow, counts.shadows),
        statics=map(encode_static_counts, counts.statics),
    ).SerializeToString()


def decode_rollout(body: bytes) -> RolloutCounts:
    """Raises MalformedMessage."""
    message = pb.RolloutReply()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("rollout", "is not a RolloutReply") from None
    return RolloutCounts(
        versions=tuple(map(_decode_version, message.versions)),
        shadows=tuple(map(_decode_shadow, message.shadows)),
        statics=tuple(map(decode_static_counts, message.statics)),
    )


# What operators ask for.


def encode_list_aliases() -> pb.ListAliasesRequest:
    return pb.ListAliasesRequest()


def encode_set_alias(
    name: str, model: str, fallbacks: Iterable[str] | None, *, force: bool
) -> pb.SetAliasRequest:
    return pb.SetAliasRequest(
        name=name, model=model, fallbacks=fallbacks or (), set_fallbacks=fallbacks is not None, force=force
    )


def decode_set_alias(message: pb.SetAliasRequest) -> tuple[str, str, tuple[str, ...] | None, bool]:
    """(name, model, fallbacks, force); fallbacks are None where those that there are stay."""
    fallbacks = tuple(message.fallbacks) if message.set_fallbacks else None
    return message.name, message.model, fallbacks, message.force


def encode_remove_alias(name: str) -> pb.RemoveAliasRequest:
    return pb.RemoveAliasRequest(name=name)


def encode_set_canary(name: str, model: str, share: float, *, force: bool) -> pb.SetCanaryRequest:
    return pb.SetCanaryRequest(name=name, model=model, share=share, force=force)


def encode_promote(name: str, *, force: bool) -> pb.PromoteRequest:
    return pb.PromoteRequest(name=name, force=force)


def encode_roll_back(name: str) -> pb.RollBackRequest:
    return pb.RollBackRequest(name=name)


def encode_set_shadow(name: str, model: str, share: float, *, force: bool) -> pb.SetShadowRequest:
    return pb.SetShadowRequest(name=name, model=model, share=share, force=force)


def decode_share(message: pb.SetCanaryRequest | pb.SetShadowRequest) -> tuple[str, str, float, bool]:
    """(name, model, share, force)."""
    return message.name, message.model, message.share, message.force


def set_alias_response(alias: Alias, revision: int) -> pb.SetAliasResponse:
    return pb.SetAliasResponse(alias=encode_alias_message(alias, revision))


def remove_alias_response(alias: Alias, revision: int) -> pb.RemoveAliasResponse:
    return pb.RemoveAliasResponse(alias=encode_alias_message(alias, revision))


def set_canary_response(alias: Alias, revision: int) -> pb.SetCanaryResponse:
    return pb.SetCanaryResponse(alias=encode_alias_message(alias, revision))


def promote_response(alias: Alias, revision: int) -> pb.PromoteResponse:
    return pb.PromoteResponse(alias=encode_alias_message(alias, revision))


def roll_back_response(alias: Alias, revision: int) -> pb.RollBackResponse:
    return pb.RollBackResponse(alias=encode_alias_message(alias, revision))


def set_shadow_response(alias: Alias, revision: int) -> pb.SetShadowResponse:
    return pb.SetShadowResponse(alias=encode_alias_message(alias, revision))


Changed: TypeAlias = (
    "pb.SetAliasResponse | pb.RemoveAliasResponse | pb.SetCanaryResponse | pb.PromoteResponse"
    " | pb.RollBackResponse | pb.SetShadowResponse"
)


def decode_changed(message: Changed) -> tuple[Alias, int]:
    """The alias and its revision."""
    return decode_alias_message(message.alias), message.alias.revision
