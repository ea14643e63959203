"""How a request changes routers: claims between routers on NATS, as values and on the wire.

The broker gives a request to another router when the one that had it is silent for too long, or gives it back. That
one asks before it goes on (`Claim`); whoever has the request, or had it last, answers (`Running` or `HandOver`). Where
nobody does, it says that it goes on (`taken`), and whoever still has the request lets go of it. A router whose own
lease may have lapsed asks everybody, and waits for all to say that they do not have it (`NotHere`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import DecodeError

from headrace.contract.common_wire import decode_chunk, decode_duration, encode_chunk, encode_duration
from headrace.contract.errors import MalformedMessage
from headrace.contract.values import TokenChunk
from headrace.v1 import router_pb2 as pb

MAX_GATEWAYS = 64
"""Named in one hand-over. A client beyond them gets what it misses when its gateway joins a router anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`router_id` was given a request. `taken`: it goes on with it; else it asks who has it."""

    router_id: str
    taken: bool = False
    sequence: int = 0
    """The place of its message in the stream: two messages may have one id."""
    everybody: bool = False
    """Whoever does not have it answers too, with `NotHere`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The answer of a router that is at work on it: the claimer lets go."""

    sequence: int = 0
    """The place in the stream of the message that it is at work on: may be another one with the same id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """The answer of a router that has given the request back: what it knows of it, for the claimer to go on from."""

    output: TokenChunk | None = None
    """All that was made, from index 0."""
    attempts: int = 0
    losses: int = 0
    """Attempts that were lost or failed."""
    resumptions: int = 0
    queue_s: float | None = None
    """From acceptance to the first assignment; None where there was none."""
    first_token_s: float | None = None
    """From acceptance to the first token; None where there was none."""
    releases: int = 0
    """How often it was given back like this, this time included: those deliveries count as no failures."""
    gateways: tuple[str, ...] = ()
    """Those that have clients of it, MAX_GATEWAYS at most: they are asked what those have."""
    model: str = ""
    """The version that made the output, where an alias was asked for; "" where nothing was made."""
    earlier_models: tuple[str, ...] = ()
    """Those that made the first of it, as in Outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHere:
    """The answer, where everybody is asked, of a router that neither has it nor had it last."""

    router_id: str


ClaimReply: TypeAlias = "Running | HandOver | NotHere"


def encode_claim(claim: Claim) -> bytes:
    return pb.Claim(
        router_id=claim.router_id, taken=claim.taken, sequence=claim.sequence, everybody=claim.everybody
    ).SerializeToString()


def decode_claim(body: bytes) -> Claim:
    """Raises MalformedMessage."""
    message = pb.Claim()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("claim", "is not a Claim") from None
    return Claim(
        router_id=message.router_id,
        taken=message.taken,
        sequence=message.sequence,
        everybody=message.everybody,
    )


def encode_claim_reply(reply: ClaimReply) -> bytes:
    message = pb.ClaimReply()
    if isinstance(reply, Running):
        message.running = reply.sequence
        return message.SerializeToString()
    if isinstance(reply, NotHere):
        message.not_here = reply.router_id
        return message.SerializeToString()
    handed = message.handed_over
    handed.SetInParent()
    handed.attempts = reply.attempts
    handed.losses = reply.losses
    handed.resumptions = reply.resumptions
    handed.releases = reply.releases
    handed.gateways.extend(reply.gateways[:MAX_GATEWAYS])
    handed.model = reply.model
    handed.earlier_models.extend(reply.earlier_models)
    if reply.output is not None:
        handed.output.CopyFrom(encode_chunk(reply.output))
    if reply.queue_s is not None:
        handed.queue_time.CopyFrom(encode_duration(reply.queue_s))
    if reply.first_token_s is not None:
        handed.first_token_time.CopyFrom(encode_duration(reply.first_token_s))
    return message.SerializeToString()


def decode_claim_reply(body: bytes) -> ClaimReply:
    """Raises MalformedMessage."""
    message = pb.ClaimReply()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("claim reply", "is not a ClaimReply") from None
    match message.WhichOneof("answer"):
        case "running":
            return Running(sequence=message.running)
        case "handed_over":
            return _decode_hand_over(message.handed_over)
        case "not_here":
            return NotHere(router_id=message.not_here)
        case _:
            raise MalformedMessage("claim reply", "has no answer that this version knows")


def _decode_hand_over(message: pb.HandOver) -> HandOver:
    return HandOver(
        output=decode_chunk(message.output) if message.HasField("output") else None,
        attempts=message.attempts,
        losses=message.losses,
        resumptions=message.resumptions,
        releases=message.releases,
        gateways=tuple(message.gateways[:MAX_GATEWAYS]),
        model=message.model,
        earlier_models=tuple(message.earlier_models),
        queue_s=decode_duration(message.queue_time) if message.HasField("queue_time") else None,
        first_token_s=(
            decode_duration(message.first_token_time) if message.HasField("first_token_time") else None
        ),
    )
