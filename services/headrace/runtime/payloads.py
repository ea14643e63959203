"""Objects in the bucket headrace_payloads: what is too large for a message, in pieces that are not.

The form is that of every NATS client's object store, so that producers and consumers use theirs. Reading and removing
are our own: the library's would follow a link into another bucket, wait for ever where a piece is missing, take any
size, and leave a mark for each object that is removed.

An object is there when its description is, which is written last and removed last. So of a process that dies

- while it writes one, pieces stay that nobody can find,
- between writing it and sending the message that refers to it, an object that nobody asks for,
- between the end of what referred to it and its removal, the same,

and all of these go by age. Source: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js.api import Header
from nats.js.errors import APIError, NotFoundError

from headrace.contract.errors import HeadraceError, InvalidRequest, Overloaded, Unavailable
from headrace.contract.subjects import PAYLOADS_BUCKET
from headrace.contract.values import PayloadReference
from headrace.runtime.nats_refusal import STREAM_NOT_FOUND, Refusal, refusal_of
from headrace.runtime.stored_messages import Page, PageSize, read_stored

log = structlog.get_logger(__name__)

WHAT = "store of large requests and results"
PIECE_BYTES = 128 * 1024
"""The size that all NATS clients use; less where the broker takes less."""
_HEADER_ROOM = 1024
"""What headers may add to a piece, on its way in and out."""
PAGE = PageSize(messages=128, bytes=8 * 1024 * 1024)
"""Pieces in one answer of the broker: the client library holds so much of what was not read yet without harm."""
FULL_RETRY_S = 10.0
"""When a new try makes sense where the bucket is full: objects go as requests end."""
LOOKS = 5
FIRST_PAUSE_S = 0.05
"""A replica of the stream may lag behind its leader, for milliseconds: so often are pieces looked for that are not
there, with this pause before the second look, and twice as long before each further one.
"""
_CLEAN_UP_S = 2.0
"""How long the removal of a failed object may hold up the error: it goes by age as well."""
_STREAM = f"OBJ_{PAYLOADS_BUCKET}"
_PLAIN_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class _Description:
    """What the bucket says of an object: where its pieces lie, and how much they are."""

    pieces: str
    size_bytes: int


class Payloads:
    """The bucket. Holds nothing itself; an object is in memory as long as a caller writes or reads it."""

    def __init__(self, nc: Client, *, max_bytes: int, answer_s: float) -> None:
        """`max_bytes` bounds one object; `answer_s` each answer of the broker, of which there is one per piece."""
        self.max_bytes = max_bytes
        self._nc = nc
        self._js = nc.jetstream(timeout=answer_s)
        self._answer_s = answer_s

    async def put(self, name: str, content: bytes, *, keep_s: float | None = None) -> PayloadReference:
        """Writes an object of a name that was never used; it goes after `keep_s`, or the bucket's age if that is less.

        Raises InvalidRequest("payload") where it is over the limit, Overloaded where the bucket is full, Unavailable
        where the broker does not answer. Then, and where the caller is cancelled, nothing stays of it.
        """
        if len(content) > self.max_bytes:
            problem = f"is {len(content)} bytes; limits.max_payload_bytes allows {self.max_bytes}"
            raise InvalidRequest("payload", problem)
        nuid = secrets.token_hex(11)
        ttl_s = None if keep_s is None else math.ceil(keep_s)  # the broker counts whole seconds
        try:
            return await self._write(name, nuid, content, ttl_s)
        except (APIError, nats.errors.Error, TimeoutError, OSError) as error:
            await self._clean_up(name, nuid)
            raise _refused(error) from error
        except BaseException:
            await self._clean_up(name, nuid)
            raise

    async def _write(self, name: str, nuid: str, content: bytes, ttl_s: int | None) -> PayloadReference:
        piece_bytes = min(PIECE_BYTES, self._nc.max_payload - _HEADER_ROOM)
        digest, count = hashlib.sha256(), 0
        for start in range(0, len(content), piece_bytes):
            piece = content[start : start + piece_bytes]
            digest.update(piece)
            await self._send(_pieces_subject(nuid), piece, ttl_s)
            count += 1
        description = {
            "name": name,
            "bucket": PAYLOADS_BUCKET,
            "nuid": nuid,
            "size": len(content),
            "mtime": datetime.now(UTC).isoformat(),
            "chunks": count,
            "digest": f"SHA-256={base64.urlsafe_b64encode(digest.digest()).decode()}",
            "options": {"max_chunk_size": piece_bytes},
        }
        rollup = {Header.ROLLUP.value: "sub"}  # as all clients do: it replaces what had its name
        await self._send(_description_subject(name), json.dumps(description).encode(), ttl_s, rollup)
        return PayloadReference(object=name, size_bytes=len(content), sha256=digest.hexdigest())

    async def _send(
        self, subject: str, data: bytes, ttl_s: int | None, headers: dict[str, str] | None = None
    ) -> None:
        """Stores one message. A caller that is cancelled waits until it is stored: the broker may do what it is asked
        next, to remove it, before it stores it.
        """
        publish = self._js.publish(subject, data, stream=_STREAM, headers=headers, msg_ttl=ttl_s)
        sending = asyncio.ensure_future(publish)
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait({sending}, timeout=_CLEAN_UP_S)
            sending.cancel()
            raise

    async def get(self, reference: PayloadReference) -> bytes:
        """The content of an object, which is what the reference says.

        Raises InvalidRequest("payload") where it is too large, not there, or something else; Unavailable where the
        broker does not answer.
        """
        if reference.size_bytes > self.max_bytes:
            problem = f"is {reference.size_bytes} bytes; limits.max_payload_bytes allows {self.max_bytes}"
            raise InvalidRequest("payload", problem)
        found = await self._describe(reference.object)
        if found is None:
            raise InvalidRequest(
                "payload",
                f"there is no object {reference.object!r} in the bucket {PAYLOADS_BUCKET}: put it there before the"
                " message is sent; it is removed when its request ends, and by age",
            )
        if found.size_bytes != reference.size_bytes:
            problem = f"the object has {found.size_bytes} bytes, size_bytes says {reference.size_bytes}"
            raise InvalidRequest("payload", problem)
        pause_s = FIRST_PAUSE_S
        for _ in range(LOOKS - 1):
            content = await self._read(found)
            if len(content) >= found.size_bytes:
                break
            await asyncio.sleep(pause_s)
            pause_s *= 2
        else:
            content = await self._read(found)
        if len(content) != found.size_bytes:
            raise InvalidRequest("payload", "the object is not complete: put it there anew")
        if hashlib.sha256(content).hexdigest() != reference.sha256.lower():
            raise InvalidRequest(
                "payload", "the object's SHA-256 is not the one in sha256, as hexadecimal digits"
            )
        return content

    async def _read(self, found: _Description) -> bytes:
        """What there is of an object, and not much more than its size."""
        parts: list[bytes] = []
        size, first, more = 0, 1, found.size_bytes > 0
        while more and size < found.size_bytes:
            page: Page = await read_stored(
                self._nc, _STREAM, found.pieces, first=first, most=PAGE, answer_s=self._answer_s, what=WHAT
            )
            for piece in page.messages:
                parts.append(piece.data)
                size, first = size + len(piece.data), piece.number + 1
            more = page.more
        return b"".join(parts)

    async def delete(self, name: str) -> None:
        """Removes an object, if it is there. Where the broker does not do it now, it stays until its age removes it."""
        try:
            found = await self._describe(name)
            if found is not None:
                await self._js.purge_stream(_STREAM, subject=found.pieces)
                await self._js.purge_stream(_STREAM, subject=_description_subject(name))
        except (HeadraceError, APIError, nats.errors.Error, TimeoutError, OSError) as error:
            log.info("payload.not_removed", problem=type(error).__name__)

    async def _describe(self, name: str) -> _Description | None:
        """Asks the stream's leader. Raises InvalidRequest where what it has is no description, Unavailable."""
        try:
            message = await self._js.get_last_msg(_STREAM, _description_subject(name))
        except NotFoundError as error:
            if error.err_code == STREAM_NOT_FOUND:
                raise Unavailable(WHAT, f"this NATS has no bucket {PAYLOADS_BUCKET}") from error
            return None
        except (APIError, nats.errors.Error, TimeoutError, OSError) as error:
            raise _refused(error) from error
        return _description(message.data or b"")

    async def _clean_up(self, name: str, nuid: str) -> None:
        try:
            async with asyncio.timeout(_CLEAN_UP_S):
                for subject in (_pieces_subject(nuid), _description_subject(name)):
                    await self._js.purge_stream(_STREAM, subject=subject)
        except (APIError, nats.errors.Error, TimeoutError, OSError) as error:
            log.info("payload.not_removed", problem=type(error).__name__)


def _pieces_subject(nuid: str) -> str:
    return f"$O.{PAYLOADS_BUCKET}.C.{nuid}"


def _description_subject(name: str) -> str:
    return f"$O.{PAYLOADS_BUCKET}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def _description(body: bytes) -> _Description | None:
    """None for the mark of an object that was removed. Whoever writes to the bucket can write anything."""
    try:
        said: Any = json.loads(body)
        if said.get("deleted"):
            return None
        nuid, size, options = said["nuid"], said.get("size", 0), said.get("options") or {}
        if options.get("link"):
            raise InvalidRequest("payload", "the object is a link; it must hold the request itself")
        # A wildcard in it would be everybody's pieces.
        if not (isinstance(nuid, str) and _PLAIN_TOKEN.fullmatch(nuid) and type(size) is int and size >= 0):
            raise ValueError
    except (ValueError, KeyError, AttributeError, RecursionError):
        raise InvalidRequest("payload", "the object's description in the bucket is none") from None
    return _Description(_pieces_subject(nuid), size)


def _refused(error: Exception) -> HeadraceError:
    match refusal_of(error):
        case Refusal.STREAM_FULL | Refusal.SUBJECT_FULL:
            return Overloaded(f"the {WHAT} is full (queues.payload_max_bytes)", FULL_RETRY_S)
        case Refusal.NO_STREAM:
            return Unavailable(WHAT, f"this NATS has no bucket {PAYLOADS_BUCKET} at the moment")
        case _ if isinstance(error, APIError):
            return Unavailable(WHAT, error.description or f"NATS refuses it ({type(error).__name__})")
        case _:
            return Unavailable(WHAT, f"NATS did not answer ({type(error).__name__}); try again")
