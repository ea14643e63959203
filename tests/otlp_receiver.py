"""An OTLP collector in memory, of traces and metrics: real gRPC in, plain records out.

    async with OtlpReceiver() as receiver:
        …start what exports, with receiver.environment() in its environment…
        spans = await receiver.wait_for(lambda spans: any(s.name == "deliver" for s in spans))

It runs on threads of its own, so that it also takes what is flushed while the test's event loop is blocked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.otlp_metrics import MetricsSink


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """One span as a collector sees it. Ids are lower-case hex; `parent_id` is empty for the root of a trace."""

    service: str
    instance: str
    name: str
    kind: str
    """`INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER` or `CONSUMER`."""
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    status: str
    """`UNSET`, `OK` or `ERROR`."""
    attributes: Mapping[str, Any]
    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """(trace id, span id) of each link."""
    resource: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def traceparent(self) -> str:
        """This span as the parent of the next hop."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """The collector. `spans` has one writer, the export call; every reader gets a copy."""

    def __init__(self, port: int = 0) -> None:
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4), options=(("grpc.so_reuseport", 0),))
        self._port = port
        self._spans: list[ReceivedSpan] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self.metrics = MetricsSink(self._take)
        self._payloads: list[bytes] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def payload(self) -> bytes:
        """Every byte that was exported: to prove that something is not in it."""
        return b"".join(self._payloads)

    @property
    def spans(self) -> list[ReceivedSpan]:
        return list(self._spans)

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to export here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "50",  # ms; 5 s by default
            "OTEL_METRIC_EXPORT_INTERVAL": "500",  # ms; a minute by default
            "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of that name, in the order of their start."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_ns)

    async def wait_for(
        self, predicate: Callable[[Sequence[ReceivedSpan]], bool], timeout: float = 10.0
    ) -> list[ReceivedSpan]:
        """The spans so far, as soon as `predicate` holds for them. Fails, and lists them, if it never does."""
        try:
            async with asyncio.timeout(timeout):
                while not predicate(spans := self.spans):
                    await self._arrived.wait()
                    self._arrived.clear()
        except TimeoutError:
            seen = (
                "\n".join(f"  {span.service}: {span.name} {span.attributes}" for span in self.spans)
                or "  none"
            )
            raise AssertionError(
                f"the spans awaited did not come within {timeout} s; there are:\n{seen}"
            ) from None
        return spans

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                self._spans.extend(_received(span, resource) for span in scope.spans)
        self._take(request.SerializeToString())
        return trace_service_pb2.ExportTraceServiceResponse()

    def _take(self, payload: bytes) -> None:
        self._payloads.append(payload)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def until(self, met: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
        """Returns as soon as `met` holds, which is asked after each export. Fails if it never does."""
        try:
            async with asyncio.timeout(timeout):
                while not met():
                    await self._arrived.wait()
                    self._arrived.clear()
        except TimeoutError:
            raise AssertionError(f"{what} did not come within {timeout} s") from None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.metrics.register(self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        stopped = self._server.stop(None)
        await asyncio.to_thread(stopped.wait)
        self._loop = None


def _received(span: trace_pb2.Span, resource: Mapping[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        service=str(resource.get("service.name", "")),
        instance=str(resource.get("service.instance.id", "")),
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        attributes=_values(span.attributes),
        events=tuple((event.name, _values(event.attributes)) for event in span.events),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        resource=resource,
    )


def _values(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "kvlist_value":
            return _values(value.kvlist_value.values)
        case kind:
            return getattr(value, kind)
