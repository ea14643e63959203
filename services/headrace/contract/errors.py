"""The one error tree. Fields, not formatted strings: the shells map a class to a status, a person reads the text.

    HeadraceError
    ├── InvalidRequest(field, problem)          the caller's input breaks a limit; nothing was computed
    │   ├── UnknownModel(model, known)
    │   └── DeadlinePassed(late_s)
    ├── DuplicateRequest(request_id)            the id is another request's
    ├── Overloaded(reason, retry_after_s)       refused for lack of room; try again later
    ├── NotFound(what, name)
    ├── UnknownMember(member, known)            no process of the mesh has that id
    ├── NotAuthenticated(problem)               the caller does not say who it is, or cannot be believed
    ├── NotPermitted(problem)                   the caller may not do that
    ├── OutputLost(request_id, next_index)      tokens that were made are kept nowhere
    ├── Unavailable(what, problem)              a part that is needed does not answer
    ├── EngineFailed(problem)                   the engine failed on an entry
    ├── TooManyAttempts(attempts, last)         given up after K attempts
    ├── MalformedMessage(where, problem)        bytes that are not what they should be
    └── StartError(problem, remedy)             a process cannot start as it is set up

`code` is the stable, machine-readable name that crosses the wire; it is never reworded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class HeadraceError(Exception):
    """Root of the tree. `code` is stable on the wire; `str()` is one line for a person,
    without any content of a request.
    """

    code: ClassVar[str] = "INTERNAL"
    request_id = ""
    """The accepted request that ended so, where clients raise it; its outcome has what was made."""


class InvalidRequest(HeadraceError):
    """The caller's input breaks a limit. `field` is its path in the request, as in the proto."""

    code = "INVALID_REQUEST"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class UnknownModel(InvalidRequest):
    """No router serves this model; `known` says which there are."""

    code = "UNKNOWN_MODEL"

    def __init__(self, model: str, known: Sequence[str]) -> None:
        there = ", ".join(sorted(known)) or "none"
        super().__init__("model", f"unknown model {model[:80]!r}; available: {there}")
        self.model = model
        self.known = tuple(known)


class DeadlinePassed(InvalidRequest):
    """The deadline came before the end. What lies in the past at once costs no compute."""

    code = "DEADLINE_PASSED"

    def __init__(self, late_s: float) -> None:
        by = f", by {late_s:.3f} s" if late_s >= 0.0005 else ""
        super().__init__("deadline", f"has passed before the request was done{by}")
        self.late_s = late_s


class DuplicateRequest(HeadraceError):
    """The request id is that of another request, which asks for something else."""

    code = "DUPLICATE_REQUEST"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request_id: {request_id} is already in use by another request; choose a new id")
        self.request_id = request_id
        self.field = "request_id"


class Overloaded(HeadraceError):
    """Refused for lack of room. `retry_after_s` is when a new try makes sense."""

    code = "OVERLOADED"

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(f"{reason}; retry in {retry_after_s:.1f} s")
        self.reason = reason
        self.retry_after_s = retry_after_s


class NotFound(HeadraceError):
    """Nothing of that name, or no longer."""

    code = "NOT_FOUND"

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"no {what} {name[:80]!r}")
        self.what = what
        self.name = name


class UnknownMember(HeadraceError):
    """No process of the mesh that answers has that id; `known` are those that there are, each with its kind."""

    code = "UNKNOWN_MEMBER"

    def __init__(self, member: str, known: Sequence[str]) -> None:
        super().__init__(f"no member {member[:80]!r}; there are: {', '.join(known) or 'none'}")
        self.member = member
        self.known = tuple(known)


class NotAuthenticated(HeadraceError):
    """The caller does not say who it is, or cannot be believed."""

    code = "UNAUTHENTICATED"

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class NotPermitted(HeadraceError):
    """The caller may not do that."""

    code = "PERMISSION_DENIED"

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class OutputLost(HeadraceError):
    """Tokens from `next_index` on were made, got lost on their way, and are not in the durable outcome either."""

    code = "OUTPUT_LOST"

    def __init__(self, request_id: str, next_index: int) -> None:
        super().__init__(
            f"the tokens of {request_id} from index {next_index} on were lost; ask again with a new id"
        )
        self.request_id = request_id
        self.next_index = next_index


class Unavailable(HeadraceError):
    """A part that is needed does not answer. Trying again may help."""

    code = "UNAVAILABLE"

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"{what}: {problem}")
        self.what = what
        self.problem = problem


class EngineFailed(HeadraceError):
    """The engine failed while it ran an entry."""

    code = "ENGINE_FAILED"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the engine failed: {problem}")
        self.problem = problem


class TooManyAttempts(HeadraceError):
    """The request was given up after `attempts` attempts; `last` says how the last one ended."""

    code = "TOO_MANY_ATTEMPTS"

    def __init__(self, attempts: int, last: str) -> None:
        super().__init__(f"given up after {attempts} attempts: {last}")
        self.attempts = attempts
        self.last = last


class MalformedMessage(HeadraceError):
    """Bytes on a queue or stream that are not the message they should be. `problem` never quotes them."""

    code = "MALFORMED_MESSAGE"

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class StartError(HeadraceError):
    """A process cannot start as it is set up. `remedy` says what to do about it."""

    code = "START_ERROR"

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}. {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
