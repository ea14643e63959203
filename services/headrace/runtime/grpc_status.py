"""The one place where an error of ours becomes a gRPC status, and where a client reads it back.

The status carries, as `google.rpc` details: ErrorInfo (the error's stable code as its reason), BadRequest where a field
is at fault, RetryInfo where a new try makes sense.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc_status import rpc_status

from headrace.contract import errors
from headrace.contract.errors import HeadraceError
from headrace.runtime.error_groups import expected_errors
from headrace.runtime.grpc_handlers import Continuation, Handler, ServicerContext, wrap

log = structlog.get_logger(__name__)

DOMAIN = "headrace"

_CODES: dict[type[HeadraceError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownModel: grpc.StatusCode.NOT_FOUND,
    errors.DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.DuplicateRequest: grpc.StatusCode.ALREADY_EXISTS,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.UnknownMember: grpc.StatusCode.NOT_FOUND,
    errors.NotAuthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.OutputLost: grpc.StatusCode.DATA_LOSS,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.EngineFailed: grpc.StatusCode.INTERNAL,
    errors.TooManyAttempts: grpc.StatusCode.INTERNAL,
    errors.MalformedMessage: grpc.StatusCode.INVALID_ARGUMENT,
    errors.StartError: grpc.StatusCode.INTERNAL,
    HeadraceError: grpc.StatusCode.INTERNAL,
}

# Status and details travel in the trailers, which a peer refuses whole above 8 KiB; the text stands there three times,
# once percent-encoded. A list of known models can be long.
_TEXT_LIMIT = 600


def code_of(error: HeadraceError) -> grpc.StatusCode:
    """The status of an error: that of its class, or of the nearest class above it."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def status_of(error: HeadraceError) -> grpc.Status:
    """The rich status of an error, for `context.abort_with_status`."""
    text = _clipped(str(error))
    details: list[Message] = [ErrorInfo(reason=error.code, domain=DOMAIN)]
    field = getattr(error, "field", "")
    if field:
        problem = _clipped(getattr(error, "problem", "") or text)
        details.append(
            BadRequest(field_violations=[BadRequest.FieldViolation(field=field, description=problem)])
        )
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        retry = RetryInfo()
        retry.retry_delay.FromNanoseconds(int(max(retry_after_s, 0.0) * 1e9))
        details.append(retry)
    status = Status(code=code_of(error).value[0], message=text)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)


def _clipped(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"


async def abort(context: ServicerContext, error: HeadraceError) -> NoReturn:
    """Ends the call with the status of `error`."""
    await context.abort_with_status(status_of(error))
    raise AssertionError("abort_with_status raises")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a client learns from a failed call: the status, and as much of the details as the server gave."""

    status: grpc.StatusCode
    message: str
    code: str = ""
    """The stable code of the error tree; empty where the answer did not come from Headrace."""
    field: str = ""
    retry_after_s: float | None = None


def problem_of(error: grpc.aio.AioRpcError) -> Problem:
    """Reads a failed call's status and details. Details that cannot be read are left out."""
    code, field, retry_after_s = "", "", None
    with suppress(DecodeError):
        for packed in _details(error):
            info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
            if packed.Unpack(info):
                code = info.reason if info.domain == DOMAIN else ""
            elif packed.Unpack(bad) and bad.field_violations:
                field = bad.field_violations[0].field
            elif packed.Unpack(retry):
                retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return Problem(
        status=error.code(),
        message=error.details() or "",
        code=code,
        field=field,
        retry_after_s=retry_after_s,
    )


def _details(error: grpc.aio.AioRpcError) -> list[AnyMessage]:
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin" and isinstance(value, bytes):
            return list(Status.FromString(value).details)
    return []


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Lets handlers raise errors of our tree, and keeps the text of any other exception from the client.

    gRPC itself would send `str(exception)`, in which anything may stand.
    """

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method

        @asynccontextmanager
        async def around(context: ServicerContext) -> AsyncIterator[None]:
            try:
                yield
            except (asyncio.CancelledError, grpc.aio.BaseError):
                raise
            except Exception as error:
                await _abort_with(context, method, error)

        return None if handler is None else wrap(handler, around, refuse_unreadable=True)


async def _abort_with(context: ServicerContext, method: str, error: Exception) -> NoReturn:
    expected = expected_errors(error)
    if expected:
        await abort(context, expected[0])
    # The stack, but not the exception's text: a prompt may be in it.
    stack = "".join(traceback.format_tb(error.__traceback__))
    log.error("a call failed unexpectedly", method=method, error_type=type(error).__name__, stack=stack)
    await context.abort(
        grpc.StatusCode.INTERNAL, f"internal error ({type(error).__name__}); see the server's log"
    )
    raise AssertionError("abort raises")
