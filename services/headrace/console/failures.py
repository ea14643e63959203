"""Errors as answers: the one place that gives them an HTTP status."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.contract.errors import (
    HeadraceError,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    Unavailable,
)
from headrace.dead.replay import CannotReplay

_STATUS: tuple[tuple[type[HeadraceError], int], ...] = (
    (InvalidRequest, 400),
    (NotAuthenticated, 401),
    (NotPermitted, 403),
    (NotFound, 404),
    (CannotReplay, 409),
    (Unavailable, 503),
)


def answer_failure(request: Request, error: Exception) -> Response:
    """`{"code": …, "message": …}`."""
    assert isinstance(error, HeadraceError)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"code": error.code, "message": str(error)}, status, headers)
