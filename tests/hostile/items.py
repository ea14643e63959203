"""What is thrown at the mesh. Each item follows from the seed and its number alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A message for the requests stream."""

    subject: bytes
    body: bytes
    block: bytes | None = None
    """The header block, be it one or not; None = none."""
    ids: tuple[str, ...] = ()
    """Ids under which it may be answered, beside the one that follows from its place in the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message on a subject that no stream of requests stores: nobody has to answer it."""

    subject: bytes
    body: bytes
    block: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A gRPC call on `target`, "gateway" or "router", with raw messages."""

    target: str
    path: str
    messages: tuple[bytes, ...]
    metadata: Metadata = ()
    streams: tuple[bool, bool] = (False, False)
    """Whether the caller takes requests, and responses, for a stream: not always what the method is."""
    leaves_s: float | None = None
    """When it breaks the call off; None = it waits for the end."""
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Bytes at the TCP port of `target`: "gateway", "router" or "nats"."""

    target: str
    raw: bytes
    half_closes: bool = False


Item: TypeAlias = "Queued | Said | Called | Sent"
