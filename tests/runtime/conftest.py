"""What the tests of the process plumbing share: a clean telemetry environment and a collector."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from tests.otlp_receiver import OtlpReceiver


@pytest.fixture(autouse=True)
def no_otel_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OTEL_ setting of the machine reaches a test."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as running:
        yield running
