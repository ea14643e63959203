"""Every name that Headrace writes into a trace. Where the conventions move, they move here alone; those of metrics are
in `metric_names`.

The way of one request, each line a child of the one it is indented under:

    headrace.v1.InferenceService/Generate   SERVER    gateway   the client's call
      send hr.v1.req.{…}                    PRODUCER  gateway   until the broker's acknowledgement
        process hr.v1.req.{…}               CONSUMER  router    from the broker's timestamp to the acknowledgement
          queue                             INTERNAL  router    from the broker's timestamp to the pull
          intake                            INTERNAL  router    from the pull to held: checked and tokenised
          schedule                          INTERNAL  router    from held to assigned; once per attempt
          generate {model}                  INTERNAL  worker    one attempt on one lane
            first token                     INTERNAL  worker    from the batch's start to the entry's first token
            stream                          INTERNAL  worker    from the first token to the last
          deliver                           INTERNAL  router    the tokens' way to the consumer
          send hr.v1.res.{…}                PRODUCER  router    the durable outcome

A `batch` span is a child of its first request's hold and links to the holds of all requests in it, as one batch serves
many; each `generate` span links to its batch. What happens to a request meanwhile is an event of the router's span:
EVENT_… below. A router that takes over what another one held begins a span of its own under the same parent.
No attribute ever holds a prompt or an output, but where an operator captures them (CAPTURED_…).

Source: OpenTelemetry semantic conventions 1.44 (rpc, messaging) and GenAI (in development).
"""

# ruff: noqa: S105 — the tokens in these names are a model's, not passwords
from __future__ import annotations

from typing import Final

# ── span names ──────────────────────────────────────────────────────────────────────────────────────────────

SPAN_SEND_REQUEST: Final = "send hr.v1.req.{model}.{priority}.{tenant}"
"""PRODUCER: a request is published, until the broker acknowledges it."""
SPAN_PROCESS_REQUEST: Final = "process hr.v1.req.{model}.{priority}.{tenant}"
"""CONSUMER: the router's hold on a request, from the pull to the acknowledgement."""
SPAN_QUEUE: Final = "queue"
"""INTERNAL: the wait in the broker, recorded after the fact."""
SPAN_INTAKE: Final = "intake"
"""INTERNAL: pulled until held: claimed, checked, its template rendered, tokenised."""
SPAN_SCHEDULE: Final = "schedule"
"""INTERNAL: held at the router until assigned to a lane. One per attempt."""
SPAN_BATCH: Final = "batch"
"""INTERNAL: one batch on one lane; links to the requests in it."""
SPAN_FIRST_TOKEN: Final = "first token"
"""INTERNAL: from the start of the batch to the first token of the entry."""
SPAN_STREAM: Final = "stream"
"""INTERNAL: from the first token of the entry to its last."""
SPAN_DELIVER: Final = "deliver"
"""INTERNAL: the tokens' way from the router to the consumer."""
SPAN_SEND_RESULT: Final = "send hr.v1.res.{tenant}.{request_id}"
"""PRODUCER: the durable outcome is published."""
SPAN_FIND_RESULT: Final = "receive hr.v1.res.{tenant}.{request_id}"
"""CLIENT: the gateway looks whether an id that a client chose has an outcome; recorded where that takes its time."""
SPAN_SEND_DEAD: Final = "send hr.v1.dead.{model}.{tenant}"
"""PRODUCER: a dead letter is published."""


def generate_span(model: str, operation: str = "generate") -> str:
    """INTERNAL: one attempt of a request on one lane. Convention: `{operation} {model}`."""
    return f"{operation} {model}"


# ── GenAI ───────────────────────────────────────────────────────────────────────────────────────────────────

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
"""What was asked of the model: one of the OPERATION_… below."""
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
"""Who serves the model: always PROVIDER_HEADRACE."""
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
"""The model's name as the caller wrote it."""
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
"""The model that answered, with its version."""
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
"""A list with one entry: why the generation ended."""
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"

OPERATION_GENERATE: Final = "generate"
OPERATION_EMBED: Final = "embeddings"
"""The conventions' own word."""
OPERATION_TRANSLATE: Final = "translate"
"""The conventions have no word for it, and allow one of the system's own where none of theirs fits."""
PROVIDER_HEADRACE: Final = "headrace"


def operation_of(task: str) -> str:
    """The operation that a task is, by the word for it."""
    return {"embed": OPERATION_EMBED, "translate": OPERATION_TRANSLATE}.get(task, OPERATION_GENERATE)


# ── messaging ───────────────────────────────────────────────────────────────────────────────────────────────

MESSAGING_SYSTEM: Final = "messaging.system"
"""Always SYSTEM_NATS."""
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
"""The first word of the span's name: `send` or `process`."""
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
"""`send` or `process`: the convention's closed set."""
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
"""The subject."""
MESSAGING_DESTINATION_TEMPLATE: Final = "messaging.destination.template"
"""The subject's pattern, of low cardinality."""
MESSAGING_CONSUMER_GROUP_NAME: Final = "messaging.consumer.group.name"
"""The durable consumer's name."""
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
"""The `Nats-Msg-Id`, which is the request id."""
MESSAGING_MESSAGE_BODY_SIZE: Final = "messaging.message.body.size"
"""Bytes of the payload."""

SYSTEM_NATS: Final = "nats"

# ── RPC and errors ──────────────────────────────────────────────────────────────────────────────────────────

RPC_SYSTEM_NAME: Final = "rpc.system.name"
"""Always SYSTEM_GRPC."""
RPC_METHOD: Final = "rpc.method"
"""The full method without its leading slash; also the span's name."""
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
"""The gRPC status by name: `OK`, `CANCELLED`, …"""
ERROR_TYPE: Final = "error.type"
"""What failed: a gRPC status name, a code of the error tree, or an exception's type. Never a message."""

SYSTEM_GRPC: Final = "grpc"

# ── Headrace's own ──────────────────────────────────────────────────────────────────────────────────────────

REQUEST_ID: Final = "headrace.request.id"
TENANT: Final = "headrace.tenant"
MODEL: Final = "headrace.model"
"""The model that runs, after its alias was resolved."""
PRIORITY: Final = "headrace.priority"
"""`realtime`, `high`, `normal` or `batch`."""
TASK: Final = "headrace.task"
ATTEMPT: Final = "headrace.attempt"
"""From 1: which assignment of the request this is."""
BATCH_ID: Final = "headrace.batch.id"
BATCH_SIZE: Final = "headrace.batch.size"
"""Entries in the batch when it started."""
LANE: Final = "headrace.lane"
WORKER: Final = "headrace.worker"
ROUTER: Final = "headrace.router"
GATEWAY: Final = "headrace.gateway"
QUEUE_POSITION: Final = "headrace.queue.position"
"""Requests ahead of this one when it was accepted."""
RESUMED_TOKENS: Final = "headrace.resumed_tokens"
"""Tokens that earlier attempts had made."""
OUTCOME: Final = "headrace.outcome"
"""`completed`, `failed`, `cancelled`, `expired` or `rejected`."""

DEADLINE_S: Final = "headrace.deadline_s"
"""Seconds that the request had from its acceptance to its deadline."""
DELIVERIES: Final = "headrace.deliveries"
"""How often the broker has delivered the request: more than once where a router was lost, or gave it back."""
REASON: Final = "headrace.reason"
"""Why, in the words of the router. Never a text that an engine or a client made up."""
OUTPUT_LIMIT: Final = "headrace.output.limit"
"""The most tokens that the request may make."""

# What a request waited for. Of a `schedule` span; of the hold where the request never ran.
WAIT_NO_LANES_S: Final = "headrace.wait.no_lanes_s"
"""Seconds of its wait in which the router had no worker with the model."""
WAIT_LOAD_S: Final = "headrace.wait.load_s"
"""Seconds that the worker which came had taken to load the model, as far as it told."""
WAIT_BEFORE_ROUTER_S: Final = "headrace.wait.before_router_s"
"""Seconds of its wait before this router began."""
WAIT_AHEAD: Final = "headrace.wait.ahead"
"""Requests of its model that were started during its wait, four numbers: realtime, high, normal, batch."""
WAIT_AHEAD_QUEUE: Final = "headrace.wait.ahead_queue"
"""Those of them that came from its own queue: of its model, class and tenant."""
WAIT_LANES: Final = "headrace.wait.lanes"
"""Lanes of its model that may run at once."""

# What a request shared its lane with. Of a `generate` span.
BATCH_PROMPT_TOKENS: Final = "headrace.batch.prompt_tokens"
"""Tokens of all prompts of the batch, what earlier attempts made included."""
BATCH_LONGEST_PROMPT: Final = "headrace.batch.longest_prompt"
"""Tokens of the longest of them."""
CONTEXT_TOKENS: Final = "headrace.context_tokens"
"""Its own: the prompt, and what earlier attempts made."""
STEPS: Final = "headrace.steps"
"""Steps in which it made a token."""
STEPS_SHARED: Final = "headrace.steps.shared"
"""Requests that such a step was shared with, on average; 0 = none."""
PAUSED_S: Final = "headrace.paused_s"
"""Seconds that it stood still for more urgent work."""
PAUSES: Final = "headrace.pauses"
"""How often."""

# The way to the client. Of the call's span at the gateway.
FIRST_TOKEN_S: Final = "headrace.first_token_s"
"""Seconds from acceptance to the first token."""
STALLED_S: Final = "headrace.delivery.stalled_s"
"""Seconds in which a message was ready and the client took none."""
STALLS: Final = "headrace.delivery.stalls"
"""Messages that had to wait for the client for long enough to be counted."""

# Events of the router's span, and of a batch's.
EVENT_HELD: Final = "held"
"""It waits for a lane now. QUEUE_POSITION, WAIT_LANES."""
EVENT_PAUSED: Final = "paused"
"""Its batch stands still. PAUSED_BY."""
EVENT_RESUMED: Final = "resumed"
"""It goes on. PAUSED_S."""
EVENT_REQUEUED: Final = "requeued"
"""It waits again. REASON, LOST_WORKER, RESUMED_TOKENS, ERROR_TYPE where the engine failed."""
EVENT_REGROUPED: Final = "regrouped"
"""It leaves its batch and goes on in a larger one. RESUMED_TOKENS."""
EVENT_CLAIMED: Final = "claimed"
"""Another router had it. DELIVERIES, RESUMED_TOKENS, LOST_ROUTER where that one handed it over."""
EVENT_RELEASED: Final = "released"
"""It goes back to its queue."""
EVENT_LET_GO: Final = "let go"
"""It is another router's. REASON."""
EVENT_RETRY: Final = "retry"
"""The broker did not take it; it is tried again. REASON."""
PAUSED_BY: Final = "headrace.paused_by"
"""The class of what goes before it."""
LOST_WORKER: Final = "headrace.lost.worker"
"""The worker that had it."""
LOST_ROUTER: Final = "headrace.lost.router"
"""The router that had it."""

# Content, of the router's span: only for the tenants of `traces.capture_tenants`.
CAPTURED_PROMPT: Final = "gen_ai.input.messages"
"""What was asked, as JSON, redacted and cut."""
CAPTURED_OUTPUT: Final = "gen_ai.output.messages"
"""What was answered, likewise."""

# ── instruments ─────────────────────────────────────────────────────────────────────────────────────────────

METRIC_REQUEST_DURATION: Final = "gen_ai.server.request.duration"
"""Histogram, s: from acceptance to the outcome."""
METRIC_TIME_TO_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"
"""Histogram, s: from acceptance to the first token."""
METRIC_TIME_PER_OUTPUT_TOKEN: Final = "gen_ai.server.time_per_output_token"
"""Histogram, s: between two tokens after the first."""
METRIC_RPC_SERVER_DURATION: Final = "rpc.server.call.duration"
"""Histogram, s: one call, at the server."""
METRIC_RPC_CLIENT_DURATION: Final = "rpc.client.call.duration"
"""Histogram, s: one call, at the client."""
METRIC_QUEUE_WAIT: Final = "headrace.queue.wait"
"""Histogram, s: from the broker's timestamp to the first assignment."""
METRIC_BATCH_SIZE: Final = "headrace.batch.size"
"""Histogram, {entry}: entries of a batch when it started."""
METRIC_OUTCOMES: Final = "headrace.outcomes"
"""Counter, {request}: by outcome, model, priority and tenant."""
