"""Whether a call that its client has ended was ended by its deadline."""

from __future__ import annotations

from headrace.runtime.grpc_handlers import ServicerContext

_WAY_SLACK_S = 0.25
_ROUNDING = 0.011
"""A client ends its call at its own deadline, which comes before the one that we were told: by the way to us, on which
machines may be busy, and by 1 % of the whole time, as gRPC sends three digits of it, rounded up. Who hangs up so
shortly before its deadline is taken for one whose deadline has come.
"""


def deadline_has_come(left_s: float | None, elapsed_s: float) -> bool:
    """With so many seconds left to the deadline, and so many gone since the call began; None: it has no deadline."""
    return left_s is not None and left_s <= _WAY_SLACK_S + _ROUNDING * (left_s + elapsed_s)


def code_of_cancelled(context: ServicerContext, elapsed_s: float) -> str:
    """The status of a call whose handler is cancelled, `elapsed_s` after its beginning."""
    left_s: float | None = context.time_remaining()
    return "DEADLINE_EXCEEDED" if deadline_has_come(left_s, elapsed_s) else "CANCELLED"
