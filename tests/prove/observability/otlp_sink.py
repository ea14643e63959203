"""A collector that costs next to nothing: it keeps the bytes that it is sent, and reads them when asked."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_COLLECTOR = "opentelemetry.proto.collector"


class OtlpSink:
    """Takes spans and metrics over gRPC. On threads of its own; an async context manager.

    A real collector runs on a machine of its own: what it takes to read spans is not the mesh's cost.
    """

    def __init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(max_workers=2), options=(("grpc.so_reuseport", 0),))
        self._traces: list[bytes] = []
        self._metrics: list[bytes] = []
        self._port = 0

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to export here, each second."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._port}",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",  # ms; 5 s by default
            "OTEL_METRIC_EXPORT_INTERVAL": "5000",  # ms; a minute by default
            "NO_PROXY": "127.0.0.1,localhost",
        }

    @property
    def spans(self) -> int:
        """How many have come."""
        return sum(
            len(scope.spans)
            for body in self._traces
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in group.scope_spans
        )

    @property
    def points(self) -> int:
        """How many metrics have come, each as often as it was exported."""
        return sum(
            len(scope.metrics)
            for body in self._metrics
            for group in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in group.scope_metrics
        )

    async def __aenter__(self) -> Self:
        self._server.add_generic_rpc_handlers(
            (
                _keeps(f"{_COLLECTOR}.trace.v1.TraceService", self._traces),
                _keeps(f"{_COLLECTOR}.metrics.v1.MetricsService", self._metrics),
            )
        )
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._server.stop(None).wait)


def _keeps(service: str, kept: list[bytes]) -> grpc.GenericRpcHandler:
    def export(body: bytes, context: grpc.ServicerContext) -> bytes:
        kept.append(body)
        return b""  # a response with nothing to say

    handler: Any = grpc.unary_unary_rpc_method_handler(export)  # without (de)serialisers: bytes
    return grpc.method_handlers_generic_handler(service, {"Export": handler})
