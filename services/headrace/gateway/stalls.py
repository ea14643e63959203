"""How long a client let its messages wait."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from opentelemetry import trace

from headrace.runtime import trace_names as names

COUNTED_S = 0.05
"""A message that waits for longer has waited for the client; less is the way of things on a busy machine."""


async def watched(responses: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """`responses`, with what the client let them wait written on the call's span at the end.

    gRPC asks for the next response when it has room for it: what lies between is the client's time, once the
    connection's window is full.
    """
    stalls, stalled_s = 0, 0.0
    try:
        async for response in responses:
            ready_s = time.perf_counter()
            yield response
            waited_s = time.perf_counter() - ready_s
            if waited_s >= COUNTED_S:
                stalls += 1
                stalled_s += waited_s
    finally:
        if stalls:
            trace.get_current_span().set_attributes(
                {names.STALLS: stalls, names.STALLED_S: round(stalled_s, 3)}
            )
