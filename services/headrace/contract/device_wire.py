"""A device to protobuf and back."""

from __future__ import annotations

from headrace.contract.work import Device
from headrace.v1 import router_pb2 as pb


def encode_device(device: Device) -> pb.Device:
    return pb.Device(
        kind=device.kind,
        index=device.index,
        name=device.name,
        cores=device.cores,
        memory_bytes=device.memory_bytes,
        compute_types=device.compute_types,
    )


def decode_device(message: pb.Device) -> Device:
    return Device(
        kind=message.kind,
        index=message.index,
        name=message.name,
        cores=message.cores,
        memory_bytes=message.memory_bytes,
        compute_types=tuple(message.compute_types),
    )
