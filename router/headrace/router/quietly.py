"""Acknowledgements that are not waited for."""

from __future__ import annotations

from collections.abc import Awaitable

import structlog
from nats.errors import Error as NatsError

log = structlog.get_logger(__name__)


async def quietly(publish: Awaitable[None]) -> None:
    """An acknowledgement that cannot be sent now is not needed: the broker delivers again, and finds the outcome."""
    try:
        await publish
    except (NatsError, TimeoutError, OSError) as error:
        log.info("message.not_acknowledged", problem=type(error).__name__)
