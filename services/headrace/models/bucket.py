"""Models in the bucket headrace_files of NATS's object store: how they reach a node that has no other way in.

    sha256/<digest>      a file's content, once for all versions that have it; its pieces are under its digest
    <name>@<version>     a version's manifest, written when all its files are there
    <name>               the version that was pushed last under that name

Each is an object as every NATS client knows them. Reading is our own, as in `headrace.runtime.payloads`: the library's
waits for ever for a piece that is missing, cannot go on where it was, and holds all of it in memory.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.js.api import Header
from nats.js.errors import APIError, NotFoundError

from headrace.contract.errors import HeadraceError, Unavailable
from headrace.contract.subjects import FILES_BUCKET
from headrace.models.errors import DamagedObject
from headrace.runtime.nats_refusal import STREAM_NOT_FOUND, Refusal, refusal_of
from headrace.runtime.stored_messages import Page, PageSize, read_stored

WHAT = "store of model files"
PIECE_BYTES = 256 * 1024
"""Less where the broker takes less."""
_HEADER_ROOM = 1024
"""What headers may add to a piece."""
PAGE = PageSize(messages=64, bytes=8 * 1024 * 1024)
"""Pieces in one answer of the broker: so much is in memory at once."""
MAX_SMALL = 8 * 1024 * 1024
"""Bytes of a manifest, chat template and all: a larger one is none."""
_STREAM = f"OBJ_{FILES_BUCKET}"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PREFIX = f"$O.{FILES_BUCKET}.M."


class BucketFull(HeadraceError):
    """The broker has no room for more files."""

    code = "NO_ROOM"

    def __init__(self) -> None:
        super().__init__(
            "the NATS server has no room for more model files: free disk space there, or remove versions that nobody"
            " uses with `headrace model remove --pushed`"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketObject:
    """What the bucket says of an object."""

    name: str
    pieces: str
    """The subject of its pieces."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What there is of pieces that were sent: how many, and the last of them."""

    count: int
    number: int
    """Its sequence in the stream; 0 = there is none."""
    last: bytes


class FilesBucket:
    """The bucket. Every method raises Unavailable where the broker does not answer within `answer_s`, or refuses."""

    def __init__(self, nc: Client, *, answer_s: float = 10.0) -> None:
        self._nc = nc
        self._js = nc.jetstream(timeout=answer_s)
        self._answer_s = answer_s

    @property
    def piece_bytes(self) -> int:
        """The size of all pieces of a file but the last."""
        return min(PIECE_BYTES, self._nc.max_payload - _HEADER_ROOM)

    async def names(self) -> frozenset[str]:
        """Of all objects."""
        with _reporting():
            info = await self._js.stream_info(_STREAM, subjects_filter=f"{_PREFIX}>")
        found = set()
        for subject in info.state.subjects or {}:
            try:
                found.add(base64.urlsafe_b64decode(subject.removeprefix(_PREFIX)).decode())
            except ValueError:
                continue  # somebody else's
        return frozenset(found)

    async def find(self, name: str) -> BucketObject | None:
        """What there is of that name; None where there is nothing, or no object of ours."""
        with _reporting():
            try:
                message = await self._js.get_last_msg(_STREAM, _described(name))
            except NotFoundError as error:
                if error.err_code == STREAM_NOT_FOUND:
                    raise
                return None
        try:
            said: Any = json.loads(message.data or b"")
            nuid, size = said["nuid"], said.get("size", 0)
            if said.get("deleted") or not (
                isinstance(nuid, str) and _TOKEN.fullmatch(nuid) and type(size) is int
            ):
                return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return BucketObject(name=name, pieces=_pieces(nuid), size=size)

    async def page(self, found: BucketObject, first: int) -> Page:
        """Pieces of an object, from the stream's message number `first` on."""
        return await read_stored(
            self._nc, _STREAM, found.pieces, first=first, most=PAGE, answer_s=self._answer_s, what=WHAT
        )

    async def read(self, name: str) -> bytes | None:
        """The content of a small object; None where there is none. Raises DamagedObject."""
        found = await self.find(name)
        if found is None:
            return None
        if found.size > MAX_SMALL:
            raise DamagedObject(name, "manifest", f"it has {found.size} bytes")
        parts: list[bytes] = []
        first, more = 1, True
        while more and sum(map(len, parts)) <= found.size:
            page = await self.page(found, first)
            parts += [piece.data for piece in page.messages]
            first, more = (page.messages[-1].number + 1, page.more) if page.messages else (first, False)
        content = b"".join(parts)
        if len(content) != found.size:
            raise DamagedObject(name, "manifest", f"{len(content)} bytes instead of {found.size}")
        return content

    async def write(self, name: str, content: bytes) -> None:
        """Puts a small object in the place of any former one. Raises BucketFull."""
        former, nuid = await self.find(name), secrets.token_hex(11)
        number = 0
        for start in range(0, len(content), self.piece_bytes):
            number = await self.send(_pieces(nuid), content[start : start + self.piece_bytes], number)
        await self.describe(name, nuid, len(content), hashlib.sha256(content).digest())
        if former is not None:
            await self.purge(former.pieces)

    async def describe(self, name: str, nuid: str, size: int, digest: bytes) -> None:
        """Makes an object of the pieces that were sent for `nuid`."""
        description = {
            "name": name,
            "bucket": FILES_BUCKET,
            "nuid": nuid,
            "size": size,
            "mtime": datetime.now(UTC).isoformat(),
            "chunks": -(-size // self.piece_bytes),
            "digest": f"SHA-256={base64.urlsafe_b64encode(digest).decode()}",
            "options": {"max_chunk_size": self.piece_bytes},
        }
        with _reporting():
            await self._js.publish(
                _described(name),
                json.dumps(description).encode(),
                stream=_STREAM,
                headers={Header.ROLLUP.value: "sub"},
            )

    async def sent(self, subject: str) -> Stored:
        """What was sent of a file so far."""
        with _reporting():
            info = await self._js.stream_info(_STREAM, subjects_filter=subject)
            count = (info.state.subjects or {}).get(subject, 0)
            if not count:
                return Stored(count=0, number=0, last=b"")
            try:
                message = await self._js.get_last_msg(_STREAM, subject)
            except NotFoundError:
                return Stored(count=0, number=0, last=b"")
        return Stored(count=count, number=message.seq or 0, last=message.data or b"")

    async def send(self, subject: str, piece: bytes, after: int) -> int:
        """Stores a piece after that of number `after`, and gives its number: where somebody else has stored one
        meanwhile the broker refuses it. Raises BucketFull.
        """
        with _reporting():
            headers = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(after)}
            return (await self._js.publish(subject, piece, stream=_STREAM, headers=headers)).seq

    async def remove(self, name: str) -> None:
        """Removes an object, if it is there."""
        if (found := await self.find(name)) is not None:
            await self.purge(_described(name))
            await self.purge(found.pieces)

    async def purge(self, subject: str) -> None:
        """Removes all messages of a subject."""
        with _reporting():
            await self._js.purge_stream(_STREAM, subject=subject)


def blob_name(sha256: str) -> str:
    """The object of a file."""
    return f"sha256/{sha256}"


def blob_pieces(sha256: str) -> str:
    """The subject of its pieces, which is known before there is one: a push that broke goes on there."""
    return _pieces(sha256)


def _pieces(nuid: str) -> str:
    return f"$O.{FILES_BUCKET}.C.{nuid}"


def _described(name: str) -> str:
    return f"{_PREFIX}{base64.urlsafe_b64encode(name.encode()).decode()}"


@contextmanager
def _reporting() -> Iterator[None]:
    """Turns what the client library raises into ours."""
    try:
        yield
    except NotFoundError as error:
        problem = f"this NATS has no bucket {FILES_BUCKET}: start a router on it first"
        raise Unavailable(WHAT, problem) from error
    except (APIError, nats.errors.Error, TimeoutError, OSError) as error:
        match refusal_of(error):
            case Refusal.STREAM_FULL:
                raise BucketFull from error
            case Refusal.NO_STREAM:
                raise Unavailable(WHAT, f"this NATS has no bucket {FILES_BUCKET} at the moment") from error
            case _ if isinstance(error, APIError):
                raise Unavailable(WHAT, error.description or "NATS refuses it") from error
            case _:
                problem = f"NATS did not answer ({type(error).__name__}); try again"
                raise Unavailable(WHAT, problem) from error
