"""Values to protobuf and back, through bytes: nothing is lost, nothing is made up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.v1 import admin_pb2, common_pb2, inference_pb2, queue_pb2, router_pb2, state_pb2, trace_pb2
from tests.contract import trips
from tests.contract.alias_trips import ALIAS_TRIPS
from tests.contract.trips import AN_ID, Trip

TRIPS = [*trips.TRIPS, *ALIAS_TRIPS]

FILES = [admin_pb2, common_pb2, inference_pb2, queue_pb2, router_pb2, state_pb2, trace_pb2]
STREAMED = {"text", "token_ids", "text_lengths", "payload"}

each_trip = pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.kind.DESCRIPTOR.name)


@each_trip
@settings(derandomize=True, deadline=None, max_examples=40)
@given(data=st.data())
def test_values_come_back_as_they_were(trip: Trip, data: st.DataObject) -> None:
    """Through the bytes that another process would read."""
    value = data.draw(trip.values)
    sent = trip.encode(value).SerializeToString()
    assert trip.decode(trip.kind.FromString(sent)) == value


@each_trip
def test_no_field_of_a_message_is_left_out(trip: Trip) -> None:
    """A message with every field set is the same after its values were read and written again."""
    for message in full_messages(trip.kind):
        assert trip.encode(trip.decode(message)) == message


def test_every_message_type_is_tried() -> None:
    """By itself or as a part of another."""
    tried: set[str] = set()
    for trip in TRIPS:
        tried |= set(names_of_parts(trip.kind.DESCRIPTOR))
    all_there = {name for file in FILES for name in file.DESCRIPTOR.message_types_by_name}
    assert all_there <= tried


def names_of_parts(descriptor: Any) -> Iterator[str]:
    yield descriptor.name
    for field in descriptor.fields:
        if field.message_type is not None:
            yield from names_of_parts(field.message_type)


def full_messages(kind: type[Message]) -> Iterator[Message]:
    """Messages with all their fields set; of a oneof, one message for each choice."""
    choices = [field.name for oneof in real_oneofs(kind.DESCRIPTOR) for field in oneof.fields]
    for choice in choices or [""]:
        message = kind()
        others = {name for name in choices if name != choice}
        fill(message, others)
        yield message


def real_oneofs(descriptor: Any) -> list[Any]:
    """Without those that stand for `optional`."""
    return [oneof for oneof in descriptor.oneofs if not oneof.name.startswith("_")]


def fill(message: Any, left_out: Collection[str] = ()) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.name in left_out:
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value["key"] = "value"
        elif field.message_type is not None:
            # The end of a stream carries no output: its chunks did.
            fill(value.add() if field.is_repeated else value, STREAMED if field.name == "finished" else ())
        elif field.is_repeated:
            value.extend([scalar(field)] * 2)
        else:
            setattr(message, field.name, scalar(field))


def scalar(field: Any) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_BYTES:
            return b"bytes"
        case FieldDescriptor.TYPE_STRING:
            return AN_ID if field.name == "request_id" else field.name
        case FieldDescriptor.TYPE_ENUM:
            return field.enum_type.values[-1].number
        case FieldDescriptor.TYPE_BOOL:
            return True
        case FieldDescriptor.TYPE_FLOAT:
            return 0.5
        case _:
            return len("text") // 2 if field.name == "text_lengths" else field.number
