"""What the round trips do not say of the messages for operators."""

from __future__ import annotations

import pytest

from headrace.contract.admin import Member, MemberKind
from headrace.contract.admin_wire import decode_drain_begun, decode_members_response, decode_status
from headrace.contract.errors import MalformedMessage
from headrace.v1 import admin_pb2 as pb


def test_a_member_of_an_unknown_kind_is_left_out() -> None:
    """A newer version may have more kinds: the others are still listed."""
    known = pb.Member(kind=pb.MEMBER_KIND_ROUTER, id="r")
    unknown = pb.Member.FromString(b"\x08\x63\x12\x01x")  # kind 99
    listed = decode_members_response(pb.ListMembersResponse(members=[unknown, known]))
    assert listed == (Member(kind=MemberKind.ROUTER, id="r"),)


@pytest.mark.parametrize("body", [b"\xff", b"nonsense"])
def test_bytes_that_are_no_answer_are_malformed(body: bytes) -> None:
    """Anybody may answer on NATS."""
    with pytest.raises(MalformedMessage, match="status"):
        decode_status(body)
    with pytest.raises(MalformedMessage, match="drain"):
        decode_drain_begun(body)


def test_a_drain_of_nobody_is_malformed() -> None:
    """An empty body is a message, of no member."""
    with pytest.raises(MalformedMessage, match="member"):
        decode_drain_begun(b"")
