"""Every error of the tree comes back over the wire as what it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.trace import NoOpTracer

from headrace.client.failures import error_of_call, error_of_failure
from headrace.contract import errors
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Failure
from headrace.runtime.grpc_server import GrpcServer

ERRORS = [
    errors.InvalidRequest("sampling.top_p", "must be above 0: and at most 1"),
    errors.UnknownModel("it's", ["a", "b"]),
    errors.UnknownModel("nothing", []),
    errors.DeadlinePassed(1.25),
    errors.DuplicateRequest("0198c5a2-0000-7000-8000-000000000000"),
    errors.Overloaded("the queue is full; really", 2.5),
    errors.NotFound("outcome of request", "x'y"),
    errors.UnknownMember("w-1", ["router r-1", "worker w-2"]),
    errors.UnknownMember("w-1", []),
    errors.NotAuthenticated("who are you"),
    errors.NotPermitted("not from there: no"),
    errors.OutputLost("0198c5a2-0000-7000-8000-000000000000", 12),
    errors.Unavailable("NATS", "down: again"),
    errors.EngineFailed("out of memory"),
    errors.TooManyAttempts(5, "the worker was lost"),
    errors.MalformedMessage("body", "is not JSON"),
]


@asynccontextmanager
async def failing_call(answer: Callable[[Any, Any], Awaitable[bytes]]) -> AsyncIterator[Any]:
    """A method that answers so, ready to be called."""
    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    generic = grpc.method_handlers_generic_handler("test.Service", {"Fail": handler})
    server = GrpcServer(
        host="127.0.0.1",
        port=0,
        setting="test",
        register=lambda server: server.add_generic_rpc_handlers((generic,)),
        tracer=NoOpTracer(),
        grace_s=0.0,
        max_message_bytes=1024,
    )
    async with server, grpc.aio.insecure_channel(server.address) as channel:
        yield channel.unary_unary("/test.Service/Fail")


async def caught(call: Any, body: bytes = b"", **options: Any) -> HeadraceError:
    """What the client makes of the call's failure."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call(body, **options)
    return error_of_call(failed.value)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
async def test_an_error_that_a_server_raises_is_the_same_at_the_client(error: HeadraceError) -> None:
    """Class, text and every field."""

    async def answer(request: Any, context: Any) -> bytes:
        raise error

    async with failing_call(answer) as call:
        got = await caught(call)
    assert (type(got), str(got), vars(got)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_an_error_in_an_outcome_is_the_same_at_the_client(error: HeadraceError) -> None:
    """As it came through the router."""
    failure = Failure(
        code=error.code,
        message=str(error),
        field=getattr(error, "field", ""),
        retry_after_s=getattr(error, "retry_after_s", 0.0),
    )
    got = error_of_failure(failure)
    assert (type(got), str(got), vars(got)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("code", [error.code for error in ERRORS])
def test_a_text_of_another_version_keeps_the_class(code: str) -> None:
    """Only what the text would have told is missing."""
    got = error_of_failure(Failure(code=code, message="worded otherwise"))
    assert got.code == code


async def test_a_list_of_models_that_was_clipped_names_no_half_model() -> None:
    """A status holds only so much text."""
    names = [f"model-{number:03}" for number in range(200)]

    async def answer(request: Any, context: Any) -> bytes:
        raise errors.UnknownModel("x", names)

    async with failing_call(answer) as call:
        got = await caught(call)
    assert isinstance(got, errors.UnknownModel)
    assert len(got.known) > 10
    assert set(got.known) < set(names)


def test_an_unknown_code_is_told() -> None:
    """A newer gateway's error loses neither its name nor its text."""
    got = error_of_failure(Failure(code="BUDGET_SPENT", message="no money left"))
    assert (type(got), str(got)) == (HeadraceError, "BUDGET_SPENT: no money left")


async def test_statuses_that_are_not_ours_have_their_place_in_the_tree() -> None:
    """gRPC's own refusals, which carry no details."""

    async def answer(request: Any, context: Any) -> bytes:
        await asyncio.sleep(60)
        return b""

    async with failing_call(answer) as call:
        assert isinstance(await caught(call, timeout=0.1), errors.DeadlinePassed)
        too_large = await caught(call, b"x" * 2000)
        assert isinstance(too_large, errors.InvalidRequest)
        assert (
            str(too_large)
            == "request: is 2000 bytes large; the gateway takes 1024 (gateway.max_request_bytes)"
        )


async def test_a_call_that_was_cut_off_was_not_refused() -> None:
    """Whoever answered is gone; the request may be asked again."""

    async def answer(request: Any, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        return b""

    async with failing_call(answer) as call:
        got = await caught(call)
    assert isinstance(got, errors.Unavailable)
    assert "cut the call off" in str(got)
