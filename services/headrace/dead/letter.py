"""One dead letter, and which ones a person means."""

from __future__ import annotations

from dataclasses import dataclass, replace

from headrace.contract.errors import MalformedMessage
from headrace.contract.queue_wire import DeadLetter, decode_dead_letter
from headrace.contract.subjects import DEAD_STREAM, ROOT, check_name
from headrace.contract.values import NO_TRACE, Failure
from headrace.runtime.propagation import parse

UNREADABLE = "UNREADABLE_LETTER"
"""The code of a letter that is none: somebody else's message in the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter as it lies in the stream."""

    number: int
    """Its sequence in the stream: never used again."""
    stored_s: float
    """Unix time at which the broker took it: never earlier than that of a letter with a lower number."""
    dead: DeadLetter

    @property
    def trace_id(self) -> str:
        """32 hex digits; "" where it was not traced."""
        context = parse(self.dead.trace.traceparent)
        return context.traceparent.split("-")[1] if context.traceparent else ""

    @property
    def without_body(self) -> Letter:
        """What a list of many needs of it."""
        return replace(self, dead=replace(self.dead, headers={}, body=b""))

    @property
    def place(self) -> str:
        """What it is called where its request has no id."""
        return f"{DEAD_STREAM}/{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which letters are meant; what is left empty is not asked about."""

    model: str = ""
    tenant: str = ""
    code: str = ""
    """The code of the error."""
    since_s: float = 0.0
    """Unix time: those that the broker took then or later."""

    def __post_init__(self) -> None:
        """Raises InvalidRequest where a name is none."""
        if self.model:
            check_name("model", self.model)
        if self.tenant:
            check_name("tenant", self.tenant)

    @property
    def subject(self) -> str:
        """What the broker itself can choose by."""
        return f"{ROOT}.dead.{self.model or '*'}.{self.tenant or '*'}"

    def takes(self, letter: Letter) -> bool:
        """Whether a letter of that subject is meant."""
        return letter.stored_s >= self.since_s and self.code.upper() in ("", letter.dead.failure.code.upper())


EVERY = Wanted()


def read_letter(number: int, stored_s: float, body: bytes) -> Letter:
    """The letter in a message of the stream. One that cannot be read is listed as such, and can be dropped."""
    try:
        dead = decode_dead_letter(body)
    except MalformedMessage as error:
        dead = DeadLetter(
            request_id="",
            subject="",
            headers={},
            body=b"",
            failure=Failure(code=UNREADABLE, message=str(error)),
            attempts=0,
            time_s=stored_s,
            trace=NO_TRACE,
        )
    return Letter(number=number, stored_s=stored_s, dead=dead)
