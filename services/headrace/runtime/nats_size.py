"""How large a message is for the server.

It counts the headers too, also those that `js.publish(stream=…)` adds, and cuts the whole connection for one message
over its limit; the client library looks at the body alone. So whoever may come near the limit measures first.
"""

from __future__ import annotations

from collections.abc import Mapping


def message_size(body: bytes, headers: Mapping[str, str]) -> int:
    """Bytes that count against `Client.max_payload`."""
    lines = sum(len(name.encode()) + len(value.encode()) + len(": \r\n") for name, value in headers.items())
    return len("NATS/1.0\r\n") + lines + len("\r\n") + len(body)
