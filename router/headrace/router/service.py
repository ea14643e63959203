"""RouterService: the two internal streams, from protobuf to the links and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from headrace.contract.deliver_wire import decode_gateway_message, encode_delivery_message
from headrace.contract.work_wire import decode_worker_message, encode_router_message
from headrace.router.gateways import Gateways
from headrace.router.workers import Workers
from headrace.v1.router_pb2_grpc import RouterServiceServicer

if TYPE_CHECKING:
    from headrace.contract.deliver import GatewayMessage
    from headrace.contract.work import WorkerMessage

SERVICE = "headrace.v1.RouterService"


class RouterService(RouterServiceServicer):
    """Everybody dials the router, so that workers and gateways need no address of their own."""

    def __init__(self, workers: Workers, gateways: Gateways) -> None:
        self._workers = workers
        self._gateways = gateways

    async def Work(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 — the name in the proto
        """A worker's registration, heartbeat, work and tokens."""
        async for message in self._workers.serve(_decoded(request_iterator)):
            yield encode_router_message(message)

    async def Deliver(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 — the name in the proto
        """What this router delivers to the clients of a gateway."""
        async for message in self._gateways.serve(_told(request_iterator)):
            yield encode_delivery_message(message)


async def _decoded(messages: Any) -> AsyncIterator[WorkerMessage]:
    async for message in messages:
        yield decode_worker_message(message)


async def _told(messages: Any) -> AsyncIterator[GatewayMessage]:
    async for message in messages:
        yield decode_gateway_message(message)
