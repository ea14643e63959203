"""The messages of AdminService, and of its subjects on NATS, to protobuf and back."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.common_wire import (
    decode_duration,
    decode_timestamp,
    encode_duration,
    encode_timestamp,
)
from headrace.contract.device_wire import decode_device, encode_device
from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.log_level import LogLevel, decode_log_level, encode_log_level
from headrace.v1 import admin_pb2 as pb

_KIND = {
    MemberKind.ROUTER: pb.MEMBER_KIND_ROUTER,
    MemberKind.GATEWAY: pb.MEMBER_KIND_GATEWAY,
    MemberKind.WORKER: pb.MEMBER_KIND_WORKER,
}
_KIND_IN = {number: kind for kind, number in _KIND.items()}


def encode_member_kind(kind: MemberKind | None) -> pb.MemberKind.ValueType:
    return pb.MEMBER_KIND_UNSPECIFIED if kind is None else _KIND[kind]


def decode_member_kind(number: pb.MemberKind.ValueType) -> MemberKind | None:
    """None for `unspecified`. Raises InvalidRequest("kind") for a number that is no kind."""
    if number == pb.MEMBER_KIND_UNSPECIFIED:
        return None
    try:
        return _KIND_IN[number]
    except KeyError:
        allowed = ", ".join(kind.value for kind in MemberKind)
        raise InvalidRequest("kind", f"must be one of {allowed} (was number {number})") from None


def encode_member(member: Member) -> pb.Member:
    return pb.Member(
        kind=_KIND[member.kind],
        id=member.id,
        address=member.address,
        started=encode_timestamp(member.started_s),
        draining=member.draining,
        requests=member.requests,
        router=member.router,
        lanes=member.lanes,
        busy_lanes=member.busy_lanes,
        slots=member.slots,
        paused_lanes=member.paused_lanes,
        models=member.models,
        device=member.device,
        hardware=None if member.hardware is None else encode_device(member.hardware),
        metrics=member.metrics,
    )


def _decode_member(message: pb.Member, kind: MemberKind) -> Member:
    return Member(
        kind=kind,
        id=message.id,
        address=message.address,
        started_s=decode_timestamp(message.started),
        draining=message.draining,
        requests=message.requests,
        router=message.router,
        lanes=message.lanes,
        busy_lanes=message.busy_lanes,
        slots=message.slots,
        paused_lanes=message.paused_lanes,
        models=tuple(message.models),
        device=message.device,
        hardware=decode_device(message.hardware) if message.HasField("hardware") else None,
        metrics=message.metrics,
    )


def _decode_members(messages: Iterable[pb.Member]) -> tuple[Member, ...]:
    """Without those of a kind that only a newer version knows."""
    return tuple(
        _decode_member(message, _KIND_IN[message.kind]) for message in messages if message.kind in _KIND_IN
    )


def encode_list_members() -> pb.ListMembersRequest:
    return pb.ListMembersRequest()


def members_response(members: Iterable[Member]) -> pb.ListMembersResponse:
    return pb.ListMembersResponse(members=map(encode_member, members))


def decode_members_response(message: pb.ListMembersResponse) -> tuple[Member, ...]:
    return _decode_members(message.members)


def encode_drain(kind: MemberKind | None, member_id: str) -> pb.DrainRequest:
    return pb.DrainRequest(kind=encode_member_kind(kind), id=member_id)


def decode_drain(message: pb.DrainRequest) -> tuple[MemberKind | None, str]:
    """(kind, id). Raises InvalidRequest."""
    return decode_member_kind(message.kind), message.id


def drain_response(begun: DrainBegun) -> pb.DrainResponse:
    return pb.DrainResponse(member=encode_member(begun.member), grace=encode_duration(begun.grace_s))


def decode_drain_response(message: pb.DrainResponse) -> DrainBegun:
    """Raises MalformedMessage where it names no member."""
    member = _decode_one(message.member, "DrainResponse.member")
    return DrainBegun(member=member, grace_s=decode_duration(message.grace))


def _decode_one(message: pb.Member, field: str) -> Member:
    kind = _KIND_IN.get(message.kind)
    if kind is None:
        raise MalformedMessage(field, "is of no kind that this version knows")
    return _decode_member(message, kind)


def encode_set_log_level(kind: MemberKind | None, member_id: str, level: LogLevel) -> pb.SetLogLevelRequest:
    return pb.SetLogLevelRequest(kind=encode_member_kind(kind), id=member_id, level=encode_log_level(level))


def decode_set_log_level(message: pb.SetLogLevelRequest) -> tuple[MemberKind | None, str, LogLevel]:
    """(kind, id, level). Raises InvalidRequest."""
    return decode_member_kind(message.kind), message.id, decode_log_level(message.level)


def decode_asked_log_level(body: bytes) -> LogLevel:
    """What `hr.v1.admin.log.<kind>.<id>` asks for. Raises MalformedMessage, or InvalidRequest("level")."""
    message = pb.SetLogLevelRequest()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("log level", "is not a SetLogLevelRequest") from None
    return decode_log_level(message.level)


def log_level_response(member: Member) -> pb.SetLogLevelResponse:
    return pb.SetLogLevelResponse(member=encode_member(member))


def decode_log_level_response(message: pb.SetLogLevelResponse) -> Member:
    """Raises MalformedMessage where it names no member."""
    return _decode_one(message.member, "SetLogLevelResponse.member")


def decode_log_level_set(body: bytes) -> Member:
    """The answer on `hr.v1.admin.log.<kind>.<id>`. Raises MalformedMessage."""
    message = pb.SetLogLevelResponse()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("log level", "is not a SetLogLevelResponse") from None
    return decode_log_level_response(message)


def encode_status(members: Iterable[Member]) -> bytes:
    """The answer on `hr.v1.admin.status`."""
    return pb.StatusReply(members=map(encode_member, members)).SerializeToString()


def decode_status(body: bytes) -> tuple[Member, ...]:
    """Raises MalformedMessage."""
    message = pb.StatusReply()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("status", "is not a StatusReply") from None
    return _decode_members(message.members)


def encode_drain_begun(begun: DrainBegun) -> bytes:
    """The answer on `hr.v1.admin.drain.<kind>.<id>`."""
    return drain_response(begun).SerializeToString()


def decode_drain_begun(body: bytes) -> DrainBegun:
    """Raises MalformedMessage."""
    message = pb.DrainResponse()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("drain", "is not a DrainResponse") from None
    return decode_drain_response(message)
