"""Request ids: ULID or UUIDv7, so that they sort by time and nobody has to coordinate.

Source: RFC 9562 (UUIDv7); https://github.com/ulid/spec
"""

from __future__ import annotations

import hashlib
import re
import uuid

import uuid_utils

from headrace.contract.errors import InvalidRequest

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def new_request_id() -> str:
    """A fresh UUIDv7."""
    return str(uuid_utils.uuid7())


def is_request_id(text: str) -> bool:
    """Whether `text` is a ULID (upper case) or a UUIDv7 (lower case, with hyphens)."""
    return _ULID.fullmatch(text) is not None or _UUID7.fullmatch(text) is not None


def check_request_id(field: str, text: str) -> str:
    """Gives `text` back, or raises InvalidRequest(field)."""
    if not is_request_id(text):
        raise InvalidRequest(
            field, "must be a ULID (26 characters, upper case) or a UUIDv7 (36 characters, lower case)"
        )
    return text


def made_s(request_id: str) -> float:
    """The Unix time, in seconds, at which a ULID or UUIDv7 says that it was made."""
    if len(request_id) == 26:
        milliseconds = 0
        for letter in request_id[:10]:
            milliseconds = milliseconds * 32 + _CROCKFORD.index(letter)
        return milliseconds / 1000
    return int(request_id[:8] + request_id[9:13], 16) / 1000


def may_be_used_again(request_id: str, now_s: float, duplicate_window_s: float) -> bool:
    """Whether the broker may have forgotten a message of this id, within whose window it would have known it.

    An id is no younger than its first use. Half of the window is left for clocks that differ.
    """
    return now_s - made_s(request_id) > duplicate_window_s / 2


def derived_request_id(stream: str, sequence: int, timestamp_ms: int) -> str:
    """The UUIDv7 of a message that brought no id: the same at every delivery, whoever receives it.

    `timestamp_ms` is the broker's (milliseconds since 1970), `sequence` the message's place in `stream`.
    """
    tail = hashlib.sha256(f"{stream}/{sequence}".encode()).digest()[:10]
    raw = bytearray((timestamp_ms & (2**48 - 1)).to_bytes(6, "big") + tail)
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return str(uuid.UUID(bytes=bytes(raw)))
