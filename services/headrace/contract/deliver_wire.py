"""The messages of `Deliver` to protobuf and back. `encode_delivery_message` is on the hot path."""

from __future__ import annotations

from headrace.contract.alias import Alias
from headrace.contract.common_wire import (
    decode_chunk,
    decode_duration,
    decode_lengths,
    decode_outcome,
    decode_position,
    decode_task,
    decode_timestamp,
    encode_duration,
    encode_outcome,
    encode_position,
    encode_task,
    encode_timestamp,
)
from headrace.contract.deliver import (
    Delivery,
    DeliveryMessage,
    GatewayJoin,
    GatewayMessage,
    HeldStream,
    Model,
    ModelLoad,
    Recall,
)
from headrace.contract.errors import InvalidRequest
from headrace.v1 import inference_pb2
from headrace.v1 import router_pb2 as pb


def encode_gateway_message(message: GatewayMessage) -> pb.GatewayMessage:
    out = pb.GatewayMessage(left=message.left)
    if message.join is not None:
        out.join.gateway_id = message.join.gateway_id
        out.join.held.extend(_encode_held(held) for held in message.join.held)
    return out


def decode_gateway_message(message: pb.GatewayMessage) -> GatewayMessage:
    """Raises MalformedMessage where the text of a stream is not that of its tokens."""
    join = None
    if message.HasField("join"):
        join = GatewayJoin(
            gateway_id=message.join.gateway_id,
            held=tuple(_decode_held(held) for held in message.join.held),
        )
    return GatewayMessage(join=join, left=tuple(message.left))


def _encode_held(held: HeldStream) -> pb.HeldStream:
    return pb.HeldStream(
        request_id=held.request_id,
        tenant=held.tenant,
        first_index=held.first_index,
        token_ids=held.token_ids,
        text=held.text,
        text_lengths=held.text_lengths,
        model=held.model,
    )


def _decode_held(message: pb.HeldStream) -> HeldStream:
    token_ids = tuple(message.token_ids)
    return HeldStream(
        request_id=message.request_id,
        tenant=message.tenant,
        first_index=message.first_index,
        token_ids=token_ids,
        text=message.text,
        text_lengths=decode_lengths(message.text_lengths, token_ids, message.text),
        model=message.model,
    )


def encode_delivery_message(message: DeliveryMessage) -> pb.DeliveryMessage:
    out = pb.DeliveryMessage(draining=message.draining)
    if message.welcome:
        out.welcome.router_id = message.welcome
    if message.catalogue is not None:
        out.catalogue.models.extend(_encode_load(load) for load in message.catalogue)
        out.catalogue.SetInParent()
    for delivery in message.deliveries:
        entry = out.deliveries.add(request_id=delivery.request_id)
        if (chunk := delivery.tokens) is not None:
            tokens = entry.tokens
            tokens.first_index = chunk.first_index
            tokens.token_ids.extend(chunk.token_ids)
            tokens.text = chunk.text
            tokens.text_lengths.extend(chunk.text_lengths)
        if delivery.finished is not None:
            entry.finished.CopyFrom(encode_outcome(delivery.finished, whole=False))
        if delivery.queued is not None:
            entry.queued.CopyFrom(encode_position(delivery.queued))
        if delivery.model:
            entry.model = delivery.model
    for recall in message.recall:
        out.recall.add(request_id=recall.request_id, tenant=recall.tenant)
    return out


def decode_delivery_message(message: pb.DeliveryMessage) -> DeliveryMessage:
    return DeliveryMessage(
        welcome=message.welcome.router_id,
        catalogue=(
            tuple(load for sent in message.catalogue.models if (load := _decode_load(sent)) is not None)
            if message.HasField("catalogue")
            else None
        ),
        deliveries=tuple(
            Delivery(
                request_id=entry.request_id,
                tokens=decode_chunk(entry.tokens) if entry.HasField("tokens") else None,
                finished=decode_outcome(entry.finished) if entry.HasField("finished") else None,
                queued=decode_position(entry.queued) if entry.HasField("queued") else None,
                model=entry.model,
            )
            for entry in message.deliveries
        ),
        draining=message.draining,
        recall=tuple(Recall(request_id=recall.request_id, tenant=recall.tenant) for recall in message.recall),
    )


def encode_model(model: Model) -> inference_pb2.Model:
    return inference_pb2.Model(
        name=model.name,
        version=model.version,
        task=encode_task(model.task),
        context_length=model.context_length,
        lanes=model.lanes,
        alias=None if model.alias is None else _encode_targets(model.alias),
    )


def _encode_targets(alias: Alias) -> inference_pb2.AliasTargets:
    return inference_pb2.AliasTargets(
        stable=alias.stable,
        canary=alias.canary,
        share=alias.share,
        fallbacks=alias.fallbacks,
        changed=encode_timestamp(alias.changed_s),
    )


def _decode_targets(name: str, message: inference_pb2.AliasTargets) -> Alias:
    return Alias(
        name=name,
        stable=message.stable,
        canary=message.canary,
        share=message.share,
        fallbacks=tuple(message.fallbacks),
        changed_s=decode_timestamp(message.changed),
    )


def decode_model(message: inference_pb2.Model) -> Model | None:
    """None where it is for a task of a newer version: nobody here could ask for it."""
    try:
        task = decode_task(message.task)
    except InvalidRequest:
        return None
    return Model(
        name=message.name,
        version=message.version,
        task=task,
        context_length=message.context_length,
        lanes=message.lanes,
        alias=_decode_targets(message.name, message.alias) if message.HasField("alias") else None,
    )


def _encode_load(load: ModelLoad) -> pb.CatalogueModel:
    message = pb.CatalogueModel(
        model=encode_model(load.model),
        waiting=load.waiting,
        seconds_per_request=load.seconds_per_request,
        free_lanes=load.free_lanes,
    )
    if load.ready_in_s is not None:
        message.ready_in.CopyFrom(encode_duration(load.ready_in_s))
    return message


def _decode_load(message: pb.CatalogueModel) -> ModelLoad | None:
    model = decode_model(message.model)
    if model is None:
        return None
    return ModelLoad(
        model=model,
        waiting=tuple(message.waiting),
        seconds_per_request=message.seconds_per_request,
        free_lanes=message.free_lanes,
        ready_in_s=decode_duration(message.ready_in) if message.HasField("ready_in") else None,
    )
