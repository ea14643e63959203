"""Every metric that Headrace exposes: its name, unit, labels and buckets. Where the conventions move, they move here
alone.

The names are OpenTelemetry's. Prometheus shows them with `_` for `.`, the unit and `_total` behind them:
`headrace.queue.wait` is `headrace_queue_wait_seconds_bucket`, `headrace.tokens` is `headrace_tokens_total`.
No label ever holds a prompt, an output or a request's id.

Source: OpenTelemetry semantic conventions 1.44 (rpc, messaging, process) and GenAI (in development).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headrace.runtime import trace_names as names


class Kind(enum.Enum):
    """What a metric is."""

    COUNTER = "counter"
    """Only grows, from 0 at the start of the process."""
    GAUGE = "gauge"
    """As it is now."""
    HISTOGRAM = "histogram"
    """How values are distributed over `buckets`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One metric."""

    name: str
    kind: Kind
    unit: str
    """UCUM: `s`, `By`, or `{request}` for what is counted."""
    about: str
    """A sentence for whoever reads a dashboard."""
    labels: tuple[str, ...] = ()
    """In the order in which values of them are given. One with no value is left out."""
    names: tuple[str, ...] = ()
    """Those of `labels` whose values callers choose: at most `metrics.max_series` combinations are told apart."""
    buckets: tuple[float, ...] = ()
    """Upper bounds, in `unit`."""


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────

MODEL: Final = names.GEN_AI_REQUEST_MODEL
VERSION: Final = names.GEN_AI_RESPONSE_MODEL
"""The version that answers: `name`, or `name@version`."""
OPERATION: Final = names.GEN_AI_OPERATION_NAME
PROVIDER: Final = names.GEN_AI_PROVIDER_NAME
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 — a model's, not a password
"""`input` or `output`."""
TENANT: Final = names.TENANT
PRIORITY: Final = names.PRIORITY
OUTCOME: Final = names.OUTCOME
ERROR_TYPE: Final = names.ERROR_TYPE
"""A code of the error tree, or a gRPC status. Absent where nothing failed."""
STATE: Final = "headrace.state"
DIRECTION: Final = "headrace.direction"
USE: Final = "headrace.use"
RESULT: Final = "headrace.result"
EVENT: Final = "headrace.event"
CPU_MODE: Final = "cpu.mode"

OTHER: Final = "other"
"""Stands for the names that are not told apart."""

# ── buckets ─────────────────────────────────────────────────────────────────────────────────────────────────

DURATION_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The GenAI convention's, for a whole request."""
FIRST_TOKEN_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""The GenAI convention's."""
TOKEN_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""The GenAI convention's."""
TOKENS: Final = (
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
)  # fmt: skip
"""The GenAI convention's."""
CALL_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The RPC and messaging conventions'."""
WAIT_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""A queue is waited in from milliseconds to half an hour."""
SHORT_S: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1)
"""What holds up an event loop."""
LAG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
ENTRIES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512)

# ── GenAI: the router, of every request that it ends ────────────────────────────────────────────────────────

REQUEST_DURATION: Final = Instrument(
    name="gen_ai.server.request.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="From the broker's acceptance of a request to its outcome.",
    labels=(OPERATION, PROVIDER, MODEL, PRIORITY, ERROR_TYPE),
    names=(MODEL,),
    buckets=DURATION_S,
)
TIME_TO_FIRST_TOKEN: Final = Instrument(
    name="gen_ai.server.time_to_first_token",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="From the broker's acceptance of a request to its first token, its wait included.",
    labels=(OPERATION, PROVIDER, MODEL, PRIORITY),
    names=(MODEL,),
    buckets=FIRST_TOKEN_S,
)
TIME_PER_OUTPUT_TOKEN: Final = Instrument(
    name="gen_ai.server.time_per_output_token",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="Mean time between the tokens of a completed request after its first, pauses included.",
    labels=(OPERATION, PROVIDER, MODEL, PRIORITY),
    names=(MODEL,),
    buckets=TOKEN_S,
)
TOKEN_USAGE: Final = Instrument(
    name="gen_ai.client.token.usage",
    kind=Kind.HISTOGRAM,
    unit="{token}",
    about="Tokens of a request: of its prompt, and of its output.",
    labels=(OPERATION, PROVIDER, MODEL, TOKEN_TYPE),
    names=(MODEL,),
    buckets=TOKENS,
)

# ── requests: the router ────────────────────────────────────────────────────────────────────────────────────

OUTCOMES: Final = Instrument(
    name="headrace.outcomes",
    kind=Kind.COUNTER,
    unit="{request}",
    about="Requests that this router ended, by how. An expired one has the outcome `expired`.",
    labels=(OUTCOME, MODEL, PRIORITY, ERROR_TYPE),
    names=(MODEL,),
)
TENANT_OUTCOMES: Final = Instrument(
    name="headrace.tenant.outcomes",
    kind=Kind.COUNTER,
    unit="{request}",
    about="Requests that this router ended, by whose they were and how they ended.",
    labels=(TENANT, OUTCOME),
    names=(TENANT,),
)
TOKENS_USED: Final = Instrument(
    name="headrace.tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    about="Tokens of ended requests by tenant and model, of prompts (`input`) and of outputs (`output`).",
    labels=(TENANT, MODEL, TOKEN_TYPE),
    names=(TENANT, MODEL),
)
SHED: Final = Instrument(
    name="headrace.shed",
    kind=Kind.COUNTER,
    unit="{request}",
    about="Requests refused because their first token would have come too late.",
    labels=(MODEL, PRIORITY),
    names=(MODEL,),
)
RETRIES: Final = Instrument(
    name="headrace.retries",
    kind=Kind.COUNTER,
    unit="{request}",
    about="Running requests that wait again, as their worker was lost, failed or left.",
    labels=(MODEL, PRIORITY),
    names=(MODEL,),
)
REGROUPS: Final = Instrument(
    name="headrace.regroups",
    kind=Kind.COUNTER,
    unit="{request}",
    about="Running requests that went on in a larger batch.",
    labels=(MODEL,),
    names=(MODEL,),
)
DEAD_LETTERS: Final = Instrument(
    name="headrace.dead_letters",
    kind=Kind.COUNTER,
    unit="{message}",
    about="Messages kept as dead letters, by why.",
    labels=(ERROR_TYPE,),
)

# ── queues: the router ──────────────────────────────────────────────────────────────────────────────────────

QUEUE_WAITING: Final = Instrument(
    name="headrace.queue.waiting",
    kind=Kind.GAUGE,
    unit="{request}",
    about="Requests that this router holds and no lane has.",
    labels=(MODEL, PRIORITY),
    names=(MODEL,),
)
QUEUE_BACKLOG: Final = Instrument(
    name="headrace.queue.backlog",
    kind=Kind.GAUGE,
    unit="{request}",
    about="Requests in the broker that no router has, as this router last heard: each router tells of the same ones.",
    labels=(MODEL, PRIORITY),
    names=(MODEL,),
)
QUEUE_AGE: Final = Instrument(
    name="headrace.queue.age",
    kind=Kind.GAUGE,
    unit="s",
    about="How long the oldest request that waits at this router has been waiting.",
    labels=(MODEL, PRIORITY),
    names=(MODEL,),
)
QUEUE_WAIT: Final = Instrument(
    name="headrace.queue.wait",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="From the broker's acceptance of a request to its first lane.",
    labels=(MODEL, PRIORITY),
    names=(MODEL,),
    buckets=WAIT_S,
)
ESTIMATE_ERROR: Final = Instrument(
    name="headrace.queue.estimate.error",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="By how much a request waited `longer` or `shorter` than it was told when it came.",
    labels=(PRIORITY, DIRECTION),
    buckets=WAIT_S,
)

# ── the router's lanes and work ─────────────────────────────────────────────────────────────────────────────

HELD: Final = Instrument(
    name="headrace.router.held",
    kind=Kind.GAUGE,
    unit="{request}",
    about="Requests that this router holds; at `router.max_held` it pulls no more.",
)
WORKERS: Final = Instrument(
    name="headrace.router.workers",
    kind=Kind.GAUGE,
    unit="{worker}",
    about="Workers of this router that are `serving` or `draining`.",
    labels=(STATE,),
)
LANES: Final = Instrument(
    name="headrace.router.lanes",
    kind=Kind.GAUGE,
    unit="{lane}",
    about="Lanes of this router's workers: `running`, `paused`, or `free` to begin a batch at once.",
    labels=(STATE,),
)
BATCH_SIZE: Final = Instrument(
    name="headrace.batch.size",
    kind=Kind.HISTOGRAM,
    unit="{request}",
    about="Requests of a batch when it started.",
    labels=(MODEL,),
    names=(MODEL,),
    buckets=ENTRIES,
)
PAUSES: Final = Instrument(
    name="headrace.batch.pauses",
    kind=Kind.COUNTER,
    unit="{batch}",
    about="Batches that were paused for more urgent work.",
)
STATIC_PROMPTS: Final = Instrument(
    name="headrace.static_prompts",
    kind=Kind.COUNTER,
    unit="{request}",
    about="Requests that began with a static prompt: its lane had it computed, `hit`, or computed it then, `miss`.",
    labels=(VERSION, RESULT),
    names=(VERSION,),
)
STATIC_TOKENS: Final = Instrument(
    name="headrace.static_prompts.spared",
    kind=Kind.COUNTER,
    unit="{token}",
    about="Tokens of prompts that were not computed, as a static prompt had them.",
    labels=(VERSION,),
    names=(VERSION,),
)
SHADOW_COPIES: Final = Instrument(
    name="headrace.shadow.copies",
    kind=Kind.COUNTER,
    unit="{request}",
    about="Copies of requests for the shadow of an alias: `sent`, or `dropped`, as their queue was full or they"
    " were too large.",
    labels=(MODEL, VERSION, RESULT),
    names=(MODEL, VERSION),
)
SHADOW_ANSWERS: Final = Instrument(
    name="headrace.shadow.answers",
    kind=Kind.COUNTER,
    unit="{request}",
    about="What became of copies: `failed`; greedy ones answered as clients were, `same`, or otherwise, `different`;"
    " and `sampled` ones, which say nothing.",
    labels=(MODEL, VERSION, RESULT),
    names=(MODEL, VERSION),
)
GATEWAYS: Final = Instrument(
    name="headrace.router.gateways",
    kind=Kind.GAUGE,
    unit="{gateway}",
    about="Gateways that are connected to this router.",
)
DECISION: Final = Instrument(
    name="headrace.router.decision.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="Time that the scheduler took over an event, of each tenth; tokens, which decide nothing, are no events.",
    labels=(EVENT,),
    buckets=SHORT_S,
)
INTAKE: Final = Instrument(
    name="headrace.router.intake.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="From a request's arrival at the router to its place in the queue: read, claimed, rendered, tokenised.",
    buckets=CALL_S,
)
SETTLING: Final = Instrument(
    name="headrace.router.settling.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="From the end of a request to its durable outcome and its acknowledgement.",
    buckets=CALL_S,
)

# ── the gateway ─────────────────────────────────────────────────────────────────────────────────────────────

STREAMS: Final = Instrument(
    name="headrace.gateway.streams",
    kind=Kind.GAUGE,
    unit="{stream}",
    about="Open streams of clients; further ones than `gateway.max_concurrent_streams` are refused.",
)
ROUTERS: Final = Instrument(
    name="headrace.gateway.routers",
    kind=Kind.GAUGE,
    unit="{router}",
    about="Routers that this gateway is connected to.",
)
PUBLISH_DURATION: Final = Instrument(
    name="messaging.client.operation.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="From a request's publication to the broker's acknowledgement.",
    labels=(names.MESSAGING_SYSTEM, names.MESSAGING_OPERATION_NAME, ERROR_TYPE),
    buckets=CALL_S,
)

# ── the worker ──────────────────────────────────────────────────────────────────────────────────────────────

WORKER_LANES: Final = Instrument(
    name="headrace.worker.lanes",
    kind=Kind.GAUGE,
    unit="{lane}",
    about="Lanes of this worker: `running`, `paused`, or `free`, spare ones included.",
    labels=(STATE,),
)
WORKER_TOKENS: Final = Instrument(
    name="headrace.worker.tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    about="Tokens that the engine made.",
    labels=(MODEL,),
    names=(MODEL,),
)
ENTRY_STEPS: Final = Instrument(
    name="headrace.worker.entry_steps",
    kind=Kind.COUNTER,
    unit="{step}",
    about="Places of batches times steps, by what became of them: `output` made a token, `padding` worked in a token"
    " of a longer prompt, `ended` was empty, as its request had ended before its batch.",
    labels=(MODEL, USE),
    names=(MODEL,),
)
WORKER_STEPS: Final = Instrument(
    name="headrace.worker.steps",
    kind=Kind.COUNTER,
    unit="{step}",
    about="Steps that ended batches took.",
    labels=(MODEL,),
    names=(MODEL,),
)
WORKER_TEXTS: Final = Instrument(
    name="headrace.worker.texts",
    kind=Kind.COUNTER,
    unit="{text}",
    about="Texts that the engine embedded.",
    labels=(MODEL,),
    names=(MODEL,),
)
TEXT_PLACES: Final = Instrument(
    name="headrace.worker.text_places",
    kind=Kind.COUNTER,
    unit="{token}",
    about="Places of texts that were embedded at once, by what they held: `text` a token, `padding` nothing, as the"
    " longest of them was longer.",
    labels=(MODEL, USE),
    names=(MODEL,),
)
BATCH_DURATION: Final = Instrument(
    name="headrace.worker.batch.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="From a batch's arrival at its lane to its end, pauses included.",
    labels=(MODEL, ERROR_TYPE),
    names=(MODEL,),
    buckets=DURATION_S,
)

# ── the console ─────────────────────────────────────────────────────────────────────────────────────────────

PAGES: Final = Instrument(
    name="headrace.console.pages",
    kind=Kind.GAUGE,
    unit="{page}",
    about="Pages that are open; further ones than `console.max_clients` are refused.",
)

# ── every process ───────────────────────────────────────────────────────────────────────────────────────────

RPC_SERVER_DURATION: Final = Instrument(
    name="rpc.server.call.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="One call, at the server. RESOURCE_EXHAUSTED are refusals.",
    labels=(names.RPC_SYSTEM_NAME, names.RPC_METHOD, names.RPC_RESPONSE_STATUS_CODE),
    buckets=CALL_S,
)
JOINS: Final = Instrument(
    name="headrace.grpc.joins",
    kind=Kind.COUNTER,
    unit="{stream}",
    about="Streams to routers that this gateway or worker has opened: what goes beyond the routers it has are"
    " reconnections.",
)
PENDING: Final = Instrument(
    name="headrace.grpc.pending",
    kind=Kind.GAUGE,
    unit="{request}",
    about="Requests of which something waits to be sent on the streams between processes.",
)
RPC_ACTIVE: Final = Instrument(
    name="headrace.grpc.active_calls",
    kind=Kind.GAUGE,
    unit="{call}",
    about="Calls that the server is answering, the streams of other processes included.",
)
LOOP_LAG: Final = Instrument(
    name="headrace.event_loop.lag",
    kind=Kind.HISTOGRAM,
    unit="s",
    about="By how much a timer of the event loop comes late.",
    buckets=LAG_S,
)
NATS_CONNECTED: Final = Instrument(
    name="headrace.nats.connected",
    kind=Kind.GAUGE,
    unit="1",
    about="1 where the broker is connected.",
)
NATS_TROUBLES: Final = Instrument(
    name="headrace.nats.troubles",
    kind=Kind.GAUGE,
    unit="{trouble}",
    about="Things that the broker is asked for and fails: the log says which.",
)
NATS_RECONNECTS: Final = Instrument(
    name="headrace.nats.reconnects",
    kind=Kind.COUNTER,
    unit="{connection}",
    about="Connections to the broker after the first.",
)
NATS_PENDING: Final = Instrument(
    name="headrace.nats.pending",
    kind=Kind.GAUGE,
    unit="By",
    about="Bytes that wait to be sent to the broker; at `nats.pending_bytes` publishing fails.",
)
NATS_MESSAGES: Final = Instrument(
    name="headrace.nats.messages",
    kind=Kind.COUNTER,
    unit="{message}",
    about="Messages `sent` to and `received` from the broker.",
    labels=(DIRECTION,),
)
CPU_TIME: Final = Instrument(
    name="process.cpu.time",
    kind=Kind.COUNTER,
    unit="s",
    about="CPU time of the process, `user` and `system`.",
    labels=(CPU_MODE,),
)
MEMORY: Final = Instrument(
    name="process.memory.usage",
    kind=Kind.GAUGE,
    unit="By",
    about="Resident memory of the process.",
)
OPEN_FILES: Final = Instrument(
    name="headrace.process.open_files",
    kind=Kind.GAUGE,
    unit="{file}",
    about="Open files and sockets of the process.",
)


def instruments() -> Iterator[Instrument]:
    """All of them, in the order above."""
    return (value for value in globals().values() if isinstance(value, Instrument))
