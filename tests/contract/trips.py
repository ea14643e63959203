"""Every message type that travels on its own, with the values it carries and the way there and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message
from hypothesis import strategies as st

from headrace.contract import admin_wire as admin
from headrace.contract import claims
from headrace.contract import client_wire as client
from headrace.contract import common_wire as common
from headrace.contract import deliver_wire as deliver
from headrace.contract import inference_wire as inference
from headrace.contract import queue_wire as queue
from headrace.contract import task_wire as tasks
from headrace.contract import work_wire as work
from headrace.contract.requests import Request
from headrace.contract.subjects import CONTENT_TYPE_PROTOBUF, Queue
from headrace.contract.values import OutcomeKind, Priority, Task
from headrace.v1 import admin_pb2, common_pb2, inference_pb2, queue_pb2, router_pb2
from tests.contract import strategies as values
from tests.contract.state_trips import STATE_TRIPS
from tests.contract.trace_trips import TRACE_TRIPS

AN_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
QUEUE = Queue(model="m", priority=Priority.NORMAL, tenant="t")


@dataclass(frozen=True)
class Trip:
    """A message type, the values it carries, and the way there and back."""

    kind: type[Message]
    values: st.SearchStrategy[Any]
    encode: Callable[[Any], Message]
    decode: Callable[[Any], Any]


def queued(request: Any) -> queue_pb2.QueuedRequest:
    return queue_pb2.QueuedRequest.FromString(queue.encode_request(request))


def of_queue(message: queue_pb2.QueuedRequest) -> Any:
    return queue.decode_request(message.SerializeToString(), CONTENT_TYPE_PROTOBUF, QUEUE)


def token_event(event: Any) -> queue_pb2.TokenEvent:
    return queue_pb2.TokenEvent.FromString(queue.encode_token_event(AN_ID, event, as_json=False))


def of_token_event(message: queue_pb2.TokenEvent) -> Any:
    if message.WhichOneof("event") == "tokens":
        return common.decode_chunk(message.tokens)
    return common.decode_outcome(message.finished)


def dead_letter(letter: queue.DeadLetter) -> queue_pb2.DeadLetter:
    return queue_pb2.DeadLetter.FromString(queue.encode_dead_letter(letter))


def of_dead_letter(message: queue_pb2.DeadLetter) -> queue.DeadLetter:
    return queue.DeadLetter(
        request_id=message.request_id,
        subject=message.subject,
        headers=dict(message.headers),
        body=message.body,
        failure=common.decode_failure(message.error),
        attempts=message.attempts,
        time_s=common.decode_timestamp(message.time),
        trace=common.decode_trace(message.trace),
    )


GENERATE_REQUESTS = values.REQUESTS.map(
    lambda request: replace(
        request,
        reply_to="",
        gateway="",
        task=Task.GENERATE,
        payload=None,
        texts=(),
        source_language="",
        target_language="",
    )
)
EMBED_REQUESTS = values.REQUESTS.map(
    lambda request: Request(
        id=request.id,
        tenant=request.tenant,
        model=request.model,
        priority=request.priority,
        task=Task.EMBED,
        texts=request.texts,
        deadline_s=request.deadline_s,
        keep=request.keep,
    )
)
TRANSLATE_REQUESTS = values.REQUESTS.map(
    lambda request: replace(
        request, reply_to="", gateway="", task=Task.TRANSLATE, payload=None, texts=(), messages=()
    )
)
QUEUED_REQUESTS = values.REQUESTS.map(
    lambda request: replace(
        request, model=QUEUE.model, priority=QUEUE.priority, tenant=QUEUE.tenant, keep=False
    )
)
KEYS = st.tuples(values.NAMES, values.IDS)
TRIPS = [
    Trip(inference_pb2.EmbedRequest, EMBED_REQUESTS, tasks.encode_embed, tasks.decode_embed),
    Trip(inference_pb2.EmbedResponse, values.OUTCOMES, tasks.embed_response, tasks.decode_embed_response),
    Trip(inference_pb2.TranslateRequest, TRANSLATE_REQUESTS, tasks.encode_translate, tasks.decode_translate),
    Trip(
        inference_pb2.TranslateResponse,
        values.ACCEPTED | values.POSITIONS | values.CHUNKS | values.STREAM_ENDS,
        tasks.translate_response,
        client.decode_generate_response,
    ),
    Trip(
        inference_pb2.GenerateRequest, GENERATE_REQUESTS, inference.encode_generate, inference.decode_generate
    ),
    Trip(
        inference_pb2.GenerateResponse,
        values.ACCEPTED | values.POSITIONS | values.CHUNKS | values.STREAM_ENDS,
        inference.generate_response,
        client.decode_generate_response,
    ),
    Trip(
        inference_pb2.SubmitRequest,
        GENERATE_REQUESTS | EMBED_REQUESTS | TRANSLATE_REQUESTS,
        tasks.encode_submit,
        tasks.decode_submit,
    ),
    Trip(
        inference_pb2.SubmitResponse,
        values.ACCEPTED,
        lambda accepted: inference.submit_response(accepted.request_id, accepted.position, accepted.model),
        client.decode_submit_response,
    ),
    Trip(
        inference_pb2.GetResultRequest,
        st.tuples(values.NAMES, values.IDS, values.SECONDS),
        lambda asked: client.encode_get_result(*asked),
        lambda message: (*inference.decode_result_key(message), common.decode_duration(message.wait)),
    ),
    Trip(
        inference_pb2.GetResultResponse,
        values.OUTCOMES,
        inference.result_response,
        client.decode_result_response,
    ),
    Trip(
        inference_pb2.CancelRequest,
        KEYS,
        lambda key: client.encode_cancel(*key),
        inference.decode_result_key,
    ),
    Trip(
        inference_pb2.CancelResponse,
        st.sampled_from(OutcomeKind),
        inference.cancel_response,
        client.decode_cancel_response,
    ),
    Trip(
        inference_pb2.ListModelsRequest,
        st.just(()),
        lambda _: client.encode_list_models(),
        lambda _: (),
    ),
    Trip(
        inference_pb2.ListModelsResponse,
        values.tuples(values.MODELS),
        inference.models_response,
        client.decode_models_response,
    ),
    Trip(
        queue_pb2.QueuedRequest,
        QUEUED_REQUESTS,
        queued,
        of_queue,
    ),
    Trip(queue_pb2.TokenEvent, values.CHUNKS | values.STREAM_ENDS, token_event, of_token_event),
    Trip(queue_pb2.DeadLetter, values.DEAD_LETTERS, dead_letter, of_dead_letter),
    Trip(
        common_pb2.Outcome,
        values.OUTCOMES,
        lambda outcome: common.encode_outcome(outcome, whole=True),
        common.decode_outcome,
    ),
    Trip(
        router_pb2.WorkerMessage,
        values.WORKER_MESSAGES,
        work.encode_worker_message,
        work.decode_worker_message,
    ),
    Trip(
        router_pb2.RouterMessage,
        values.ROUTER_MESSAGES,
        work.encode_router_message,
        work.decode_router_message,
    ),
    Trip(
        router_pb2.GatewayMessage,
        values.GATEWAY_MESSAGES,
        deliver.encode_gateway_message,
        deliver.decode_gateway_message,
    ),
    Trip(
        router_pb2.DeliveryMessage,
        values.DELIVERY_MESSAGES,
        deliver.encode_delivery_message,
        deliver.decode_delivery_message,
    ),
    Trip(
        router_pb2.Claim,
        values.CLAIMS,
        lambda c: router_pb2.Claim.FromString(claims.encode_claim(c)),
        lambda m: claims.decode_claim(m.SerializeToString()),
    ),
    Trip(
        router_pb2.ClaimReply,
        values.CLAIM_REPLIES,
        lambda c: router_pb2.ClaimReply.FromString(claims.encode_claim_reply(c)),
        lambda m: claims.decode_claim_reply(m.SerializeToString()),
    ),
    Trip(inference_pb2.AttachRequest, values.ATTACHMENTS, inference.encode_attach, inference.decode_attach),
    Trip(
        inference_pb2.AttachResponse,
        values.ACCEPTED | values.POSITIONS | values.CHUNKS | values.STREAM_ENDS,
        inference.attach_response,
        client.decode_generate_response,
    ),
    Trip(admin_pb2.ListMembersRequest, st.just(()), lambda _: admin.encode_list_members(), lambda _: ()),
    Trip(
        admin_pb2.ListMembersResponse,
        values.tuples(values.MEMBERS),
        admin.members_response,
        admin.decode_members_response,
    ),
    Trip(admin_pb2.DrainRequest, values.DRAINS, lambda asked: admin.encode_drain(*asked), admin.decode_drain),
    Trip(
        admin_pb2.DrainResponse,
        values.DRAINS_BEGUN,
        lambda begun: admin_pb2.DrainResponse.FromString(admin.encode_drain_begun(begun)),
        lambda message: admin.decode_drain_begun(message.SerializeToString()),
    ),
    Trip(
        admin_pb2.SetLogLevelRequest,
        values.LEVELS_ASKED,
        lambda asked: admin.encode_set_log_level(*asked),
        admin.decode_set_log_level,
    ),
    Trip(
        admin_pb2.SetLogLevelResponse,
        values.MEMBERS,
        admin.log_level_response,
        lambda message: admin.decode_log_level_set(message.SerializeToString()),
    ),
    Trip(
        admin_pb2.StatusReply,
        values.tuples(values.MEMBERS),
        lambda members: admin_pb2.StatusReply.FromString(admin.encode_status(members)),
        lambda message: admin.decode_status(message.SerializeToString()),
    ),
    *(Trip(*parts) for parts in TRACE_TRIPS),
    *(Trip(*parts) for parts in STATE_TRIPS),
]
