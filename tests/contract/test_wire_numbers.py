"""What is on the wire does not change by accident: numbers, names and types of all fields and enums are on record.

After a change that is meant, and compatible (new fields and values only), write the record anew:

    python -m tests.contract.test_wire_numbers
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from headrace.v1 import admin_pb2, common_pb2, inference_pb2, queue_pb2, router_pb2, state_pb2, trace_pb2

RECORD = Path(__file__).with_name("wire_numbers.txt")
FILES = [admin_pb2, common_pb2, inference_pb2, queue_pb2, router_pb2, state_pb2, trace_pb2]
TYPES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


def wire() -> str:
    """One line for each field, enum value, reserved range and method."""
    return "\n".join(line for file in FILES for line in lines_of(file.DESCRIPTOR)) + "\n"


def lines_of(file: Any) -> Iterator[str]:
    yield f"# {file.name}"
    for enum in file.enum_types_by_name.values():
        for value in enum.values:
            yield f"{enum.full_name} {value.number} {value.name}"
    for message in file.message_types_by_name.values():
        if not message.fields:
            yield f"{message.full_name} has no fields"
        for field in sorted(message.fields, key=lambda field: int(field.number)):
            yield f"{message.full_name} {field.number} {field.name}: {type_of(field)}"
        for reserved in proto_of(message).reserved_range:
            yield f"{message.full_name} {reserved.start} to {reserved.end - 1}: reserved"
    for service in file.services_by_name.values():
        for method in service.methods:
            sent = "stream " * method.client_streaming + method.input_type.name
            received = "stream " * method.server_streaming + method.output_type.name
            yield f"{service.full_name}.{method.name}: {sent} -> {received}"


def proto_of(message: Any) -> DescriptorProto:
    proto = DescriptorProto()
    message.CopyToProto(proto)
    return proto


def type_of(field: Any) -> str:
    named = field.message_type or field.enum_type
    kind = named.full_name if named is not None else TYPES[field.type]
    if named is not None and field.message_type and named.GetOptions().map_entry:
        entry = named.fields_by_name
        kind = f"map of {type_of(entry['key'])} to {type_of(entry['value'])}"
    elif field.is_repeated:
        kind = f"repeated {kind}"
    oneof = field.containing_oneof
    if oneof is not None:
        kind = f"optional {kind}" if oneof.name.startswith("_") else f"{kind} in {oneof.name}"
    return kind


def test_the_wire_is_as_recorded() -> None:
    """A number that moves, a type or a name that changes, or a field that goes breaks those who run another version."""
    assert wire() == RECORD.read_text()


if __name__ == "__main__":
    RECORD.write_text(wire())
