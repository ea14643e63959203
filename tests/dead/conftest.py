"""Dead letters on a real broker: made by a real router that gives up, or laid there as one would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats
from tests.router.conftest import mesh

__all__ = ["mesh"]

Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
async def broker(fresh_nats: EmbeddedNats, settings_for: Any) -> AsyncIterator[Client]:
    """A client of a broker with Headrace's streams and nobody else on it."""
    nc = await nats.connect(fresh_nats.url)
    await ensure_layout(nc, settings_for(fresh_nats))
    yield nc
    await nc.close()
