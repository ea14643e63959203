"""Waiting for processes that were started to serve."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.runtime.grpc_channel import open_channel

READY_S = 60.0
"""For the slowest start there is: the real model's, on a loaded machine."""


async def healthy(address: str, service: str) -> None:
    """Returns when the server at `address` says that the service serves. Raises TimeoutError."""
    request = health_pb2.HealthCheckRequest(service=service)
    async with asyncio.timeout(READY_S), open_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(request, wait_for_ready=True)
        async for answer in watched:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                watched.cancel()
                return


async def lanes_listed(gateway: str, lanes: int) -> None:
    """Returns when a gateway lists so many lanes. Raises TimeoutError."""
    async with asyncio.timeout(READY_S), HeadraceClient(gateway) as client:
        while True:
            try:
                if sum(model.lanes for model in await client.models()) >= lanes:
                    return
            except HeadraceError:
                pass
            await asyncio.sleep(0.1)  # a start of processes has no event to wait for
