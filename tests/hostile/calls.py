"""Hostile gRPC calls: any bytes and any metadata on every public method, calls that break off, unknown methods."""

from __future__ import annotations

from random import Random
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from headrace.contract.values import Priority
from headrace.v1 import admin_pb2
from headrace.v1 import inference_pb2 as pb
from tests.hostile import strange
from tests.hostile.items import Called, Metadata
from tests.hostile.strange import SECRET, pick

SERVICES = (
    pb.DESCRIPTOR.services_by_name["InferenceService"],
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
)
METHODS = {method.name: method for service in SERVICES for method in service.methods}
NO_METHODS = (
    "/headrace.v1.InferenceService/Nothing",
    "/headrace.v1.InferenceService/",
    "/headrace.v1.RouterService/Work",
    "/no.such.Service/Method",
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/x",
    "//",
    "/" + "y" * 3000,
)


def called(rng: Random) -> Called:
    """One call of the gateway."""
    if rng.random() < 0.06:
        return _no_method(rng)
    name = rng.choice((*METHODS, "Generate", "Generate", "Submit", "Submit"))
    method = METHODS[name]
    raw = _message(rng, name).SerializeToString()
    if rng.random() < 0.35:
        raw = strange.broken(rng, raw)
    if _commands(name, raw):
        raw = b""
    messages: tuple[bytes, ...] = (raw,)
    streams = (False, bool(method.server_streaming))
    if rng.random() < 0.05:  # of the wrong kind
        streams = (rng.random() < 0.5, rng.random() < 0.5)
        messages = rng.choice(((), (raw,), (raw, raw, raw)) if streams[0] else ((raw,),))
    leaves_s = rng.choice((0.0, 0.001, 0.01, 0.1)) if rng.random() < 0.2 else None
    timeout_s = rng.choice((20.0, 20.0, 20.0, 20.0, 0.05, 0.0001))
    if streams != (False, bool(method.server_streaming)):
        # gRPC leaves to its deadline a call that closes without a message, and one whose caller reads one of many.
        timeout_s = 1.0
    return Called(
        target="gateway",
        path=f"/{method.containing_service.full_name}/{name}",
        messages=messages,
        metadata=_metadata(rng),
        streams=streams,
        leaves_s=leaves_s,
        timeout_s=timeout_s,
    )


def _commands(name: str, raw: bytes) -> bool:
    """Whether the bytes are a request that commands the fake engine."""
    try:
        if name == "Generate":
            request = pb.GenerateRequest.FromString(raw)
        elif name == "Submit":
            request = pb.SubmitRequest.FromString(raw).request
        else:
            return False
    except DecodeError:
        return False
    return strange.commands(request.prompt, ((m.role, m.content) for m in request.messages))


def abandoned(rng: Random) -> Called:
    """A good request whose caller goes away at once."""
    request = pb.GenerateRequest(model="fake", prompt=f"{SECRET} abandoned", max_tokens=rng.randint(1, 500))
    return Called(
        target="gateway",
        path="/headrace.v1.InferenceService/Generate",
        messages=(request.SerializeToString(),),
        streams=(False, True),
        leaves_s=rng.choice((0.0, 0.0, 0.002, 0.02)),
    )


def _no_method(rng: Random) -> Called:
    return Called(
        target=rng.choice(("gateway", "router")),
        path=rng.choice(NO_METHODS),
        messages=(rng.randbytes(rng.randint(0, 60)),),
        metadata=_metadata(rng),
        streams=(rng.random() < 0.5, rng.random() < 0.5),
        timeout_s=3.0,
    )


def _message(rng: Random, name: str) -> Message:
    match name:
        case "Generate":
            return _generate(rng)
        case "Submit":
            return pb.SubmitRequest(request=_generate(rng))
        case _:
            message: Any = GetMessageClass(METHODS[name].input_type)()
            fields = METHODS[name].input_type.fields_by_name
            if "tenant" in fields:
                message.tenant = rng.choice(("", "default", "no such", "x" * 65, SECRET, "*", "\n"))
            if "request_id" in fields:
                message.request_id = pick(rng, (strange.request_id, strange.ulid, *strange.ODD_IDS))
            if "wait" in fields:
                message.wait.seconds = rng.choice((0, 1, -1, 301, 2**40, -(2**63), 2**63 - 1))
                message.wait.nanos = rng.choice((0, -1, 2**31 - 1, -(2**31)))
                if name == "Attach" and rng.random() < 0.8:
                    message.wait.seconds, message.wait.nanos = 0, rng.randrange(10**8)
            if "id" in fields:  # of a member to drain: never a true one
                message.id = rng.choice(("", "evil", "worker-9", SECRET, "*", "a.b", "x" * 300, "日本"))
            if "kind" in fields:
                message.kind = rng.choice((0, 1, 2, 3, 99, -1))
            if "from_index" in fields:
                message.from_index = rng.choice((0, 1, 4096, 2**32 - 1))
            return message  # type: ignore[no-any-return]


def _generate(rng: Random) -> pb.GenerateRequest:
    message = pb.GenerateRequest(
        model="fake", prompt=f"{SECRET} {rng.randrange(100)}", max_tokens=rng.randint(1, 12)
    )
    if rng.random() < 0.2:
        message.request_id = rng.choice((strange.request_id, strange.ulid))(rng)
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        _spoil(rng, message)
    return message


def _spoil(rng: Random, message: pb.GenerateRequest) -> None:
    """One field becomes strange."""
    match rng.randrange(12):
        case 0:
            message.request_id = pick(rng, strange.ODD_IDS)
        case 1:
            message.tenant = rng.choice(("no such", "x" * 65, "*", ">", "a.b", "\x00", "日本", "t-1"))
        case 2:
            message.model = rng.choice(("", "other", "m" * 65, "a.b", SECRET + " ", "日本", "../fake", "*"))
        case 3:
            message.priority = rng.choice((5, 99, 2**31 - 1, -1, -(2**31), int(Priority.HIGH)))  # type: ignore[assignment]
        case 4:
            message.prompt = pick(rng, strange.TEXTS)
        case 5:
            for _ in range(rng.choice((1, 3, 1100))):
                role = rng.choice(("user", "", "r" * 65, "日本", SECRET, "assistant"))
                message.messages.add(role=role, content=rng.choice(("", SECRET, "x\u2028")))
        case 6:
            message.ClearField("prompt")
        case 7:
            sampling = message.sampling
            odd = rng.choice((-1.0, 2.5, 1e38, float("nan"), float("inf"), float("-inf"), 1e-40, 0.5))
            name = rng.choice(("temperature", "top_p", "repetition_penalty"))
            setattr(sampling, name, odd)
            sampling.top_k = rng.choice((0, 1, 1001, 2**32 - 1))
        case 8:
            message.max_tokens = rng.choice((0, 1, 4096, 32_768, 32_769, 2**31, 2**32 - 1))
        case 9:
            message.stop.extend(
                rng.choice(
                    (["e"], [""], ["\x00\x01"], ["x" * 257], ["\r\n"] * 17, [pick(rng, strange.TEXTS)])
                )
            )
        case 10:
            message.deadline.seconds = rng.choice(
                (0, 1, -1, 253_402_300_799, 253_402_300_800, 2**62, -(2**63))
            )
            message.deadline.nanos = rng.choice((0, -1, 999_999_999, 2**31 - 1, -(2**31)))
        case _:
            message.keep = True


def _metadata(rng: Random) -> Metadata:
    if rng.random() < 0.6:
        return ()
    made: list[tuple[str, str | bytes]] = []
    for _ in range(rng.choice((1, 1, 2, 5))):
        made.append(
            pick(
                rng,
                (
                    lambda r: ("traceparent", r.choice(strange.TRACEPARENTS)),
                    lambda _: ("tracestate", SECRET + "=x," * 200),
                    lambda r: ("x-many", "v" * r.choice((10, 1_000, 7_000, 20_000))),
                    lambda r: ("x-odd-bin", r.randbytes(r.randint(0, 400))),
                    lambda _: ("grpc-status-details-bin", b"\xff\xfe"),
                    lambda _: ("authorization", "Bearer " + SECRET),
                    lambda _: ("grpc-previous-rpc-attempts", "9" * 30),
                    lambda _: ("x-" + "k" * 300, SECRET),
                    lambda _: ("ce-id", SECRET),
                    lambda _: ("nats-msg-id", "x"),
                ),
            )
        )
    return tuple(made)
