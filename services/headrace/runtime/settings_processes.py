"""Settings of the processes: router, gateway and worker."""

from __future__ import annotations

import os
import re
import socket
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from headrace.runtime.settings_nats import MIB
from headrace.runtime.settings_section import (
    Addresses,
    Host,
    Labels,
    Name,
    Names,
    Port,
    Seconds,
    Section,
    UserPath,
)


class RouterSettings(Section):
    """The router: where it listens, how much it holds, how long it waits."""

    host: Host = Field(default="127.0.0.1", description="Address that workers and gateways dial.")
    port: Port = Field(
        default=7701, description="Port that workers and gateways dial; 0 takes any that is free."
    )
    id: Name | None = Field(
        default=None, description="Name of this router among the members. None: made up at each start."
    )
    advertise: str | None = Field(
        default=None, description="host:port that other machines reach this router at. None: as it listens."
    )
    ack_wait_s: Seconds = Field(
        default=2.0,
        description="Seconds after which the broker gives a request to another router unless this one says that"
        " it is still on it; it says so at every third. How soon a dead router's work goes on.",
    )
    claim_wait_s: Seconds = Field(
        default=0.2,
        description="Seconds that other routers get to say that they have a request which the broker delivered"
        " again. Only such requests wait, and only where other routers are. A router that stood still itself waits"
        " until each of them has answered, for router.ack_wait_s at most.",
    )
    recall_wait_s: Seconds = Field(
        default=1.0,
        description="Seconds that a gateway gets to say what its clients have of a request which is taken over,"
        " its joining included. Without its answer the output begins anew.",
    )
    max_deliveries: int = Field(
        default=20,
        ge=1,
        le=1_000,
        description="Deliveries of a request by the broker before it becomes a dead letter: a request that kills"
        " every router it meets must not go round for ever. Those that a router gave back in order do not count.",
    )
    lookahead: int = Field(
        default=128,
        ge=1,
        le=10_000,
        description="Requests held per queue beyond what the lanes can take: the choice that grouping by length"
        " has. The rest waits in the broker.",
    )
    max_held: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Requests held in all. When reached, pulling stops and requests wait in the broker.",
    )
    max_queues: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Queues pulled at once. Further queues wait until one is empty, and a warning says so.",
    )
    max_attempts: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Assignments of a request before it becomes a dead letter: a request that kills every worker"
        " it meets must not go round for ever.",
    )
    position_every_s: Seconds = Field(
        default=1.0,
        description="Seconds between looks at the places of waiting requests; their clients are told of those that"
        " have changed materially.",
    )
    event_log: UserPath | None = Field(
        default=None,
        description="File for all that the scheduler is told and what it decides, without any content, to look at a"
        " decision again. None: it is not kept.",
    )
    event_log_max_bytes: int = Field(
        default=256 * MIB,
        ge=1024,
        le=1024 * 1024 * MIB,
        description="Bytes after which that file is not written on.",
    )
    tokenise_threads: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Threads that render templates and tokenise, beside the event loop.",
    )
    worker_timeout_s: Seconds = Field(
        default=10.0,
        description="Seconds without a word from a worker after which it is taken for lost and its requests go"
        " elsewhere. A broken connection is noticed at once; this is for machines that hang.",
    )
    result_retry_max_wait_s: Seconds = Field(
        default=5.0,
        description="Longest wait in seconds between attempts to store a result while the broker is away.",
    )
    max_message_bytes: int = Field(
        default=16 * MIB,
        ge=MIB,
        le=256 * MIB,
        description="Largest gRPC message taken from a worker or gateway.",
    )
    drain_grace_s: Seconds = Field(
        default=30.0,
        description="Seconds that running requests get to end when the router is told to stop. What has not"
        " ended goes back to the broker.",
    )


class GatewaySettings(Section):
    """The gateway: where it listens and what it takes from clients."""

    host: Host = Field(default="127.0.0.1", description="Address that clients dial.")
    port: Port = Field(default=7700, description="Port that clients dial; 0 takes any that is free.")
    id: Name | None = Field(
        default=None, description="Name of this gateway among the members. None: made up at each start."
    )
    advertise: str | None = Field(
        default=None, description="host:port that clients reach this gateway at. None: as it listens."
    )
    max_request_bytes: int = Field(
        default=4 * MIB, ge=1024, le=64 * MIB, description="Largest request taken from a client."
    )
    max_concurrent_streams: int = Field(
        default=1_000,
        ge=1,
        le=1_000_000,
        description="Open calls in all. Further ones are refused as overloaded, with a time to try again.",
    )
    publish_timeout_s: Seconds = Field(
        default=5.0,
        description="Seconds to wait for the broker to accept a request: more means that it is in trouble.",
    )
    result_wait_s: Seconds = Field(
        default=30.0,
        description="Longest wait in seconds of one GetResult call that asks to wait; the client may call again.",
    )
    router_wait_s: Seconds = Field(
        default=5.0,
        description="Seconds that a call waits for a first router before it is refused: as long as a router's"
        " restart takes.",
    )
    cancel_wait_s: Seconds = Field(
        default=0.5,
        description="Seconds that a router which holds a request gets to end it and to say so. After them nobody"
        " holds it.",
    )
    rejoin_wait_s: Seconds = Field(
        default=0.25, description="Seconds before the second attempt to reach a router; doubled."
    )
    rejoin_max_wait_s: Seconds = Field(
        default=5.0, description="Longest wait in seconds between attempts to reach a router."
    )
    admin_token: Annotated[SecretStr, AfterValidator(check_token)] | None = Field(
        default=None,
        description="Who brings it as `authorization: Bearer` may list and drain the members of the mesh; `headrace"
        " members` and `drain` read it from here. None: only calls from the gateway's own machine may, which a proxy"
        " there makes of all.",
    )
    admin_wait_s: Seconds = Field(
        default=0.3,
        description="Seconds that the members get to answer after the first when an operator lists them: far more than"
        " it takes, as one that is late is not listed.",
    )
    drain_grace_s: Seconds = Field(
        default=30.0, description="Seconds that open streams get to end when the gateway is told to stop."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.rejoin_max_wait_s < self.rejoin_wait_s:
            raise ValueError("rejoin_max_wait_s must be at least rejoin_wait_s")
        return self


def check_token(token: SecretStr) -> SecretStr:
    """Metadata of a call is printable ASCII. The text never quotes the token."""
    if not re.fullmatch(r"[!-~]{8,512}", token.get_secret_value()):
        raise ValueError("must be 8 to 512 printable ASCII characters, without spaces")
    return token


def _worker_name() -> str:
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().split(".")[0])[:48] or "worker"
    return f"{host}-{os.getpid()}"


class WorkerSettings(Section):
    """The worker: its routers, its device, its lanes."""

    router: Addresses = Field(
        default=("127.0.0.1:7701",),
        min_length=1,
        description="host:port of the routers to join, with commas between: the first that answers. Each tells of"
        " the other living ones, which are joined too when it is lost; one that is reachable at the start suffices.",
    )
    name: Name = Field(
        default_factory=_worker_name,
        json_schema_extra={"shown_default": "HOST-PID"},
        description="Name of this worker, unique among a router's.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
        description="auto, cpu, cuda, or cuda:N for one card.",
    )
    compute_type: str = Field(
        default="auto",
        pattern=r"^[a-z0-9_]{1,32}$",
        description="Number format the engine computes in, such as int8, float32, float16; auto takes the"
        " fastest that the device supports for the model as it is stored.",
    )
    lanes: int = Field(
        default=0,
        ge=0,
        le=1_024,
        description="Batches that run side by side. 0: as `headrace calibrate` found best for the first model, and"
        " else as many as there are cores.",
    )
    spare_lanes: int | None = Field(
        default=None,
        ge=0,
        le=1_023,
        description="Lanes beyond those: they hold batches that were paused for more urgent ones. A lane takes the"
        " memory that its batches need, tokens times requests, and keeps it; one that was never used takes next to"
        " none. None: three times as many as run side by side; 0: nothing is paused. At most 1,024 lanes in all.",
    )
    paused_step_s: Seconds = Field(
        default=1.0,
        description="Seconds that a paused batch stands still before it makes one step, slot or not: clients and"
        " their watchdogs see that it lives.",
    )
    threads_per_lane: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Threads of each lane. 0: as calibrated where lanes is 0 as well, and else 1; for small models"
        " more than one is much slower than more lanes.",
    )
    quick_calibration_s: float = Field(
        default=2.0,
        ge=0,
        le=600,
        description="Seconds at most to measure a model at the start that was never calibrated here, so that the"
        " router knows roughly what it costs. 0: not at all.",
    )
    max_batch: int = Field(
        default=16,
        ge=1,
        le=512,
        description="Most requests that one lane decodes together; fewer go where more do not pay.",
    )
    piece_tokens: int = Field(
        default=0,
        ge=0,
        le=1_048_576,
        description="Tokens of texts that one lane embeds in one computation, about, sorted by length:"
        " more urgent work waits for its end. 0: 1,024 on a CPU, as many as its caches hold; 16,384 on a card.",
    )
    models: Names = Field(
        default=(), description="Models to serve, with commas between. Empty: all in the model store."
    )
    deployments: bool | None = Field(
        default=None,
        description="Whether to fetch, load and unload models as `headrace model deploy` asks, beside those of"
        " worker.models; it takes a connection to NATS. None: where nats.url is set.",
    )
    memory_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Bytes of memory that all models of this worker may take; a model that would exceed them is refused"
        " before it is loaded. None: what the device has left, less a twentieth.",
    )
    labels: Labels = Field(
        default_factory=dict,
        description="Free labels of this worker for placement, as key=value with commas between.",
    )
    rejoin_wait_s: Seconds = Field(
        default=0.25,
        description="Seconds to wait once every known router has been tried in vain; doubled each time, with jitter.",
    )
    rejoin_max_wait_s: Seconds = Field(
        default=1.0,
        description="Longest wait in seconds between such attempts: how late a router's return is noticed.",
    )
    drain_grace_s: Seconds = Field(
        default=30.0,
        description="Seconds that running batches get to end when the worker is told to stop. What has not ended"
        " goes on at another worker.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.rejoin_max_wait_s < self.rejoin_wait_s:
            raise ValueError("rejoin_max_wait_s must be at least rejoin_wait_s")
        return self
