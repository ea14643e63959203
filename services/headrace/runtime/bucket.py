"""A KV bucket of NATS as values with revisions: read from the leader, and written only where nobody was faster.

As the client library has it, but with our errors, and with no watch for a list of keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from headrace.contract.errors import Unavailable

_GONE = frozenset({"DEL", "PURGE"})
_WRONG_REVISION = 10071


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a key holds, and the revision to name when it is changed."""

    value: bytes | None = None
    """None where there is none, or none any more."""
    revision: int = 0


class Changed(Exception):
    """Somebody else has written the key since it was read."""


class Bucket:
    """The keys of one bucket. Every method raises Unavailable where the broker does not answer."""

    def __init__(self, js: JetStreamContext, name: str) -> None:
        """Answers are waited for as long as `js` does."""
        self._js = js
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."

    def __repr__(self) -> str:
        return f"<Bucket {self._stream}>"

    @property
    def prefix(self) -> str:
        """Of the subject of each key."""
        return self._prefix

    async def read(self, key: str) -> Entry:
        """What a key holds."""
        try:
            found = await self._js.get_last_msg(self._stream, self._prefix + key)
        except NotFoundError:
            return Entry()
        except (APIError, NatsError, TimeoutError, OSError) as error:
            raise _unavailable(error) from error
        gone = (found.headers or {}).get("KV-Operation") in _GONE
        return Entry(value=None if gone else found.data or b"", revision=found.seq or 0)

    async def read_all(self, prefix: str) -> dict[str, Entry]:
        """The values of the keys that begin with `prefix`, which ends with a dot, in the order of the keys."""
        wanted = f"{self._prefix}{prefix}>"
        try:
            info = await self._js.stream_info(self._stream, subjects_filter=wanted)
        except (APIError, NatsError, TimeoutError, OSError) as error:
            raise _unavailable(error) from error
        found = {}
        for subject in sorted(info.state.subjects or {}):
            key = subject.removeprefix(self._prefix)
            entry = await self.read(key)
            if entry.value is not None:
                found[key] = entry
        return found

    async def write(self, key: str, value: bytes, revision: int) -> int:
        """The new revision. `revision` is that of what it replaces. Raises Changed."""
        return await self._publish(key, value, revision, {})

    async def remove(self, key: str, revision: int) -> None:
        """Raises Changed."""
        await self._publish(key, b"", revision, {"KV-Operation": "DEL"})

    async def _publish(self, key: str, value: bytes, revision: int, headers: dict[str, str]) -> int:
        headers["Nats-Expected-Last-Subject-Sequence"] = str(revision)
        try:
            ack = await self._js.publish(self._prefix + key, value, headers=headers)
        except APIError as error:
            if error.err_code == _WRONG_REVISION:
                raise Changed from error
            raise _unavailable(error) from error
        except (NatsError, TimeoutError, OSError) as error:
            raise _unavailable(error) from error
        return ack.seq


def _unavailable(error: Exception) -> Unavailable:
    said = error.description if isinstance(error, APIError) and error.description else type(error).__name__
    return Unavailable("NATS", f"the bucket cannot be used ({said}); try again")
