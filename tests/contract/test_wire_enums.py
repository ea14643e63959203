"""Enums on the wire: complete both ways, and what becomes of numbers that this version does not know."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headrace.contract import admin_wire as admin
from headrace.contract import common_wire as common
from headrace.contract.admin import MemberKind
from headrace.contract.client_wire import decode_models_response
from headrace.contract.deliver import DeliveryMessage, Model, ModelLoad
from headrace.contract.deliver_wire import decode_delivery_message, encode_delivery_message
from headrace.contract.errors import InvalidRequest
from headrace.contract.inference_wire import models_response
from headrace.contract.log_level import LogLevel, decode_log_level, encode_log_level, known_log_level
from headrace.contract.values import FinishReason, OutcomeKind, Priority, Task
from headrace.v1 import admin_pb2
from headrace.v1 import common_pb2 as pb

ENUMS = [
    (Priority, pb.Priority, common.encode_priority, common.decode_priority),
    (Task, pb.Task, common.encode_task, common.decode_task),
    (FinishReason, pb.FinishReason, common.encode_finish, common.decode_finish),
    (OutcomeKind, pb.OutcomeKind, common.encode_kind, common.decode_kind),
    (LogLevel, pb.LogLevel, encode_log_level, decode_log_level),
    (MemberKind, admin_pb2.MemberKind, admin.encode_member_kind, admin.decode_member_kind),
]
each_enum = pytest.mark.parametrize(
    ("ours", "wire", "encode", "decode"), ENUMS, ids=[enum[0].__name__ for enum in ENUMS]
)
UNKNOWN: Any = 99


@each_enum
def test_every_value_has_a_number_and_every_number_a_value(
    ours: type[enum.Enum], wire: Any, encode: Callable[[Any], int], decode: Callable[[Any], Any]
) -> None:
    """Of the same name; only the number for `unspecified` is more."""
    assert {value: decode(encode(value)) for value in ours} == {value: value for value in ours}
    prefix = wire.Name(0).removesuffix("UNSPECIFIED")
    assert {prefix + value.name for value in ours} == {wire.Name(encode(value)) for value in ours}
    assert set(wire.values()) == {encode(value) for value in ours} | {0}


def test_what_is_unspecified_has_its_documented_default() -> None:
    """A request is a normal one for text; an outcome without a kind is none that succeeded."""
    assert common.decode_priority(pb.PRIORITY_UNSPECIFIED) is Priority.NORMAL
    assert common.decode_task(pb.TASK_UNSPECIFIED) is Task.GENERATE
    assert common.decode_finish(pb.FINISH_REASON_UNSPECIFIED) is None
    assert common.encode_finish(None) == pb.FINISH_REASON_UNSPECIFIED
    assert common.decode_kind(pb.OUTCOME_KIND_UNSPECIFIED) is OutcomeKind.FAILED
    assert admin.decode_member_kind(admin_pb2.MEMBER_KIND_UNSPECIFIED) is None
    assert admin.encode_member_kind(None) == admin_pb2.MEMBER_KIND_UNSPECIFIED
    assert known_log_level(pb.LOG_LEVEL_UNSPECIFIED) is None
    assert encode_log_level(None) == pb.LOG_LEVEL_UNSPECIFIED


@pytest.mark.parametrize(
    ("decode", "field", "says"),
    [
        (common.decode_priority, "priority", "one of realtime, high, normal, batch (was number 99)"),
        (common.decode_task, "task", "one of generate, embed, translate"),
        (admin.decode_member_kind, "kind", "one of router, gateway, worker"),
        (decode_log_level, "level", "one of debug, info, warning, error, as-set (was number 99)"),
    ],
)
def test_an_unknown_wish_is_refused(decode: Callable[[Any], Any], field: str, says: str) -> None:
    """What is asked for must be understood, with the words that there are."""
    with pytest.raises(InvalidRequest, match=field) as refused:
        decode(UNKNOWN)
    assert refused.value.field == field
    assert says in refused.value.problem


def test_a_level_has_to_be_said() -> None:
    """Who forgets it changes nothing by mistake; one that a newer router knows leaves a worker as it is."""
    with pytest.raises(InvalidRequest, match=r"level: must be one of .* missing"):
        decode_log_level(pb.LOG_LEVEL_UNSPECIFIED)
    assert known_log_level(UNKNOWN) is None


def test_an_unknown_end_is_still_an_end() -> None:
    """A newer process may know more reasons: the outcome is read, and is no success by mistake."""
    assert common.decode_finish(UNKNOWN) is None
    assert common.decode_kind(UNKNOWN) is OutcomeKind.FAILED


def test_a_model_for_a_task_of_a_newer_version_is_left_out_and_hides_no_other() -> None:
    """An older gateway keeps its link to a newer router, and an older client its list of models."""
    known = Model(name="a", version="1", task=Task.GENERATE, context_length=9, lanes=1)
    load = ModelLoad(model=known, waiting=(0, 0, 0, 0), seconds_per_request=0.0, free_lanes=1)
    loads = (load, replace(load, model=replace(known, name="b")))
    message = encode_delivery_message(DeliveryMessage(catalogue=loads))
    message.catalogue.models[1].model.task = UNKNOWN
    assert decode_delivery_message(message).catalogue == (load,)
    response = models_response([known, replace(known, name="b")])
    response.models[1].task = UNKNOWN
    assert decode_models_response(response) == (known,)
