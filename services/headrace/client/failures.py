"""Errors as they come over the wire, back to errors of the tree.

A failed call brings a status with details, an ended request brings a Failure: both hold the stable code, the field at
fault, when to try again, and the error's text. What else an error holds is read from that text, which has the form
that `headrace.contract.errors` gives it; where another version words it otherwise, the class is right all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc
import grpc.aio

from headrace.contract import errors
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Failure
from headrace.runtime.grpc_status import problem_of

DEFAULT_RETRY_S = 1.0
"""When to try again where the refusal does not say."""


def error_of_call(error: grpc.aio.AioRpcError) -> HeadraceError:
    """The error that a failed call means."""
    problem = problem_of(error)
    if problem.code:
        told = _Told(message=problem.message, field=problem.field, retry_after_s=problem.retry_after_s or 0.0)
        return _error(problem.code, told)
    # The answer did not come from Headrace, but from gRPC itself or a proxy in between.
    match problem.status:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.DeadlinePassed(0.0)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in problem.message:
            return _too_large(problem.message)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.Overloaded(problem.message or "refused", DEFAULT_RETRY_S)
        case grpc.StatusCode.UNAVAILABLE:
            return errors.Unavailable("gateway", problem.message or "not reachable")
        case grpc.StatusCode.CANCELLED:
            # Not by this client, which is not told: a gateway that ends cuts off what still runs, as a proxy does.
            return errors.Unavailable("gateway", "it cut the call off")
        case status:
            return HeadraceError(f"{status.name}: {problem.message}")


def _too_large(message: str) -> HeadraceError:
    """A message that gRPC refuses by its size, before anybody has read it."""
    found = re.search(r"(SERVER)?.*\((\d+) vs\. (\d+)\)", message)
    if found is None or found[1] is None:
        return errors.InvalidRequest("request", message)
    problem = f"is {found[2]} bytes large; the gateway takes {found[3]} (gateway.max_request_bytes)"
    return errors.InvalidRequest("request", problem)


def error_of_failure(failure: Failure) -> HeadraceError:
    """The error that an ended request failed with."""
    told = _Told(message=failure.message, field=failure.field, retry_after_s=failure.retry_after_s)
    return _error(failure.code, told)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What the wire says of an error."""

    message: str
    field: str
    retry_after_s: float

    def find(self, pattern: str) -> tuple[str, ...]:
        """The groups of `pattern` in the text; where it is not found, empty ones and the whole text as the last."""
        found = re.fullmatch(pattern, self.message, re.DOTALL)
        if found is not None:
            return found.groups()
        return (*[""] * (re.compile(pattern).groups - 1), self.message)


def _error(code: str, told: _Told) -> HeadraceError:
    build = _BUILD.get(code)
    return HeadraceError(f"{code}: {told.message}") if build is None else build(told)


def _invalid(told: _Told) -> HeadraceError:
    return errors.InvalidRequest(told.field or "request", told.message.removeprefix(f"{told.field}: "))


def _unknown_model(told: _Told) -> HeadraceError:
    model, listed = told.find(r"""model: unknown model ['"](.*)['"]; available: (.*)""")
    # The server clips a text that is too long for a status: the last name is then cut off.
    known = [name for name in listed.split(", ") if not name.endswith("…")]
    return errors.UnknownModel(model, [] if listed == "none" else known)


def _deadline_passed(told: _Told) -> HeadraceError:
    found = re.fullmatch(r"deadline: has passed .*, by ([0-9.]+) s", told.message)
    return errors.DeadlinePassed(float(found[1]) if found else 0.0)


def _duplicate(told: _Told) -> HeadraceError:
    (request_id,) = told.find(r"request_id: (\S+) is already in use.*")
    return errors.DuplicateRequest(request_id)


def _overloaded(told: _Told) -> HeadraceError:
    (reason,) = told.find(r"(.*); retry in [0-9.]+ s")
    return errors.Overloaded(reason, told.retry_after_s or DEFAULT_RETRY_S)


def _not_found(told: _Told) -> HeadraceError:
    what, name = told.find(r"""no (.*?) ['"](.*)['"]""")
    return errors.NotFound(what, name)


def _unknown_member(told: _Told) -> HeadraceError:
    member, listed = told.find(r"""no member ['"](.*)['"]; there are: (.*)""")
    # As with models: a list that is too long is cut.
    known = [title for title in listed.split(", ") if not title.endswith("…")]
    return errors.UnknownMember(member, [] if listed == "none" else known)


def _output_lost(told: _Told) -> HeadraceError:
    request_id, index = told.find(r"the tokens of (\S+) from index ([0-9]+) on were lost.*")
    return errors.OutputLost(request_id, int(index) if index.isdecimal() else 0)


def _unavailable(told: _Told) -> HeadraceError:
    what, problem = told.find(r"(.*?): (.*)")
    return errors.Unavailable(what or "gateway", problem)


def _engine_failed(told: _Told) -> HeadraceError:
    (problem,) = told.find(r"the engine failed: (.*)")
    return errors.EngineFailed(problem)


def _too_many_attempts(told: _Told) -> HeadraceError:
    attempts, last = told.find(r"given up after ([0-9]+) attempts: (.*)")
    return errors.TooManyAttempts(int(attempts or 0), last)


def _malformed(told: _Told) -> HeadraceError:
    where, problem = told.find(r"(.*?): (.*)")
    return errors.MalformedMessage(where or "message", problem)


_BUILD: Mapping[str, Callable[[_Told], HeadraceError]] = {
    errors.InvalidRequest.code: _invalid,
    errors.UnknownModel.code: _unknown_model,
    errors.DeadlinePassed.code: _deadline_passed,
    errors.DuplicateRequest.code: _duplicate,
    errors.Overloaded.code: _overloaded,
    errors.NotFound.code: _not_found,
    errors.UnknownMember.code: _unknown_member,
    errors.NotAuthenticated.code: lambda told: errors.NotAuthenticated(told.message),
    errors.NotPermitted.code: lambda told: errors.NotPermitted(told.message),
    errors.OutputLost.code: _output_lost,
    errors.Unavailable.code: _unavailable,
    errors.EngineFailed.code: _engine_failed,
    errors.TooManyAttempts.code: _too_many_attempts,
    errors.MalformedMessage.code: _malformed,
}
