"""Errors of the tree as gRPC statuses, and back at the client."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.trace import NoOpTracer
from structlog.testing import capture_logs

from headrace.contract import errors
from headrace.contract.errors import HeadraceError
from headrace.runtime.grpc_channel import open_channel
from headrace.runtime.grpc_server import GrpcServer, PortInUse
from headrace.runtime.grpc_status import Problem, code_of, problem_of
from tests.runtime.grpc_services import bidirectional, call_bidirectional, call_unary, unary

C = grpc.StatusCode

CASES: list[tuple[HeadraceError, grpc.StatusCode, str, float | None]] = [
    (errors.InvalidRequest("max_tokens", "must be at least 1"), C.INVALID_ARGUMENT, "max_tokens", None),
    (errors.UnknownModel("x", ["a", "b"]), C.NOT_FOUND, "model", None),
    (errors.DeadlinePassed(1.5), C.DEADLINE_EXCEEDED, "deadline", None),
    (errors.DuplicateRequest("01J"), C.ALREADY_EXISTS, "request_id", None),
    (errors.Overloaded("the queue is full", 2.5), C.RESOURCE_EXHAUSTED, "", 2.5),
    (errors.NotFound("request", "01J"), C.NOT_FOUND, "", None),
    (errors.UnknownMember("w", ["router r"]), C.NOT_FOUND, "", None),
    (errors.NotAuthenticated("no token"), C.UNAUTHENTICATED, "", None),
    (errors.NotPermitted("from afar"), C.PERMISSION_DENIED, "", None),
    (errors.OutputLost("01J", 4), C.DATA_LOSS, "", None),
    (errors.Unavailable("NATS", "no answer"), C.UNAVAILABLE, "", None),
    (errors.EngineFailed("out of memory"), C.INTERNAL, "", None),
    (errors.TooManyAttempts(3, "worker lost"), C.INTERNAL, "", None),
    (errors.MalformedMessage("queue", "not protobuf"), C.INVALID_ARGUMENT, "", None),
    (errors.StartError("no"), C.INTERNAL, "", None),
    (HeadraceError("what"), C.INTERNAL, "", None),
]


async def _problem_when_raised(error: BaseException) -> tuple[Problem, grpc.aio.AioRpcError]:
    async def fail(request: bytes, context: Any) -> bytes:
        raise error

    async with (
        GrpcServer(
            host="127.0.0.1", port=0, setting="P", register=unary("Fail", fail), tracer=NoOpTracer()
        ) as server,
        open_channel(server.address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_unary(channel, "/test.Service/Fail")(b"")
    return problem_of(caught.value), caught.value


@pytest.mark.parametrize(
    ("error", "status", "field", "retry_after_s"), CASES, ids=lambda value: type(value).__name__
)
async def test_error_crosses_with_its_fields(
    error: HeadraceError, status: grpc.StatusCode, field: str, retry_after_s: float | None
) -> None:
    """Status, text, stable code, field and retry time of an error that a handler raises reach the client."""
    problem, _ = await _problem_when_raised(error)
    assert problem == Problem(
        status=status, message=str(error), code=error.code, field=field, retry_after_s=retry_after_s
    )


def test_every_class_of_the_tree_has_a_case() -> None:
    """A class that is added to the tree is mapped on purpose, not by accident of its parent."""
    tree = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HeadraceError)
    }
    assert tree == {type(error) for error, *_ in CASES}


def test_unlisted_subclass_has_its_parents_status() -> None:
    """An error that an adapter adds below the tree is mapped as the nearest class above it."""
    assert code_of(PortInUse("h", 1, "P")) is C.INTERNAL


async def test_error_out_of_a_task_group() -> None:
    """An error that comes wrapped by a TaskGroup is told as itself."""
    group = ExceptionGroup("g", [ExceptionGroup("h", [errors.NotFound("request", "x")])])
    problem, _ = await _problem_when_raised(group)
    assert problem.code == "NOT_FOUND"


async def test_foreign_exception_tells_nothing() -> None:
    """What stands in an unexpected exception reaches neither the client nor the log; its type and place do the log."""
    with capture_logs() as logged:
        problem, raw = await _problem_when_raised(ValueError("secret prompt"))
    assert problem.status is C.INTERNAL
    assert "secret" not in str(raw)
    (line,) = logged
    assert "secret" not in str(line)
    assert (line["method"], line["error_type"]) == ("/test.Service/Fail", "ValueError")
    assert "in fail" in line["stack"]


async def test_long_text_fits_the_trailers() -> None:
    """An error that lists thousands of models still arrives as itself: over the trailers' limit it would be another."""
    error = errors.UnknownModel("x", [f"мodel-{n}" for n in range(5000)])
    problem, _ = await _problem_when_raised(error)
    assert (problem.status, problem.code, problem.field) == (C.NOT_FOUND, "UNKNOWN_MODEL", "model")
    assert problem.message.startswith("model: unknown model 'x'; available: ")


async def test_bidirectional_streams_are_covered() -> None:
    """Errors out of the internal streams are mapped too."""

    async def work(requests: Any, context: Any) -> None:
        async for _ in requests:
            raise errors.InvalidRequest("worker", "no lanes")

    register = bidirectional("Work", work, "headrace.v1.RouterService")
    async with (
        GrpcServer(host="127.0.0.1", port=0, setting="P", register=register, tracer=NoOpTracer()) as server,
        open_channel(server.address) as channel,
    ):
        call: Any = call_bidirectional(channel, "/headrace.v1.RouterService/Work")(iter([b"1"]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(5):
                await call.read()
    assert problem_of(caught.value).field == "worker"


def test_status_from_elsewhere() -> None:
    """A status that is not ours, or whose details are damaged, is read as far as it goes."""
    plain = grpc.aio.AioRpcError(C.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="gone")
    assert problem_of(plain) == Problem(status=C.UNAVAILABLE, message="gone")
    damaged = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff\xff"))
    broken = grpc.aio.AioRpcError(C.UNAVAILABLE, grpc.aio.Metadata(), damaged, details="gone")
    assert problem_of(broken) == Problem(status=C.UNAVAILABLE, message="gone")
