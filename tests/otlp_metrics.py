"""The metrics half of the collector: what was exported last, as plain records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedPoint:
    """One series of one process, as it was exported last."""

    service: str
    instance: str
    name: str
    kind: str
    """`sum`, `gauge` or `histogram`."""
    unit: str
    attributes: Mapping[str, Any]
    value: float
    """A histogram's count."""
    total: float = 0.0
    """A histogram's sum."""
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()
    """Trace ids of its exemplars."""


class MetricsSink(metrics_service_pb2_grpc.MetricsServiceServicer):
    """The collector's service. One writer, the export call; it checks what the protocol demands of each point."""

    def __init__(self, taken: Callable[[bytes], None]) -> None:
        """`taken` is called with the bytes of each export."""
        self._taken = taken
        self._last: dict[tuple[str, str, str, str], ReceivedPoint] = {}
        self._examples: dict[tuple[str, str, str, str], tuple[str, ...]] = {}
        self.faults: list[str] = []
        """What broke the protocol."""

    def register(self, server: grpc.Server) -> None:
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    @property
    def points(self) -> list[ReceivedPoint]:
        return list(self._last.values())

    def named(self, name: str) -> list[ReceivedPoint]:
        """The series of that metric."""
        return [point for point in self.points if point.name == name]

    def examples(self, name: str) -> set[str]:
        """Trace ids of all exemplars that a metric ever had: each export has those since the last alone."""
        return {example for key, found in self._examples.items() if key[2] == name for example in found}

    def Export(
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, context: grpc.ServicerContext
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        for group in request.resource_metrics:
            resource = _plain(group.resource.attributes)
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    for point in self._points(metric, resource):
                        key = (
                            point.service,
                            point.instance,
                            point.name,
                            str(sorted(point.attributes.items())),
                        )
                        self._last[key] = point
                        self._examples[key] = (*self._examples.get(key, ()), *point.examples)
        self._taken(request.SerializeToString())
        return metrics_service_pb2.ExportMetricsServiceResponse()

    def _points(self, metric: metrics_pb2.Metric, resource: Mapping[str, Any]) -> Iterator[ReceivedPoint]:
        kind = metric.WhichOneof("data")
        common: dict[str, Any] = {
            "service": str(resource.get("service.name", "")),
            "instance": str(resource.get("service.instance.id", "")),
            "name": metric.name,
            "kind": kind,
            "unit": metric.unit,
        }
        if kind not in ("sum", "gauge", "histogram"):
            self.faults.append(f"{metric.name} is of kind {kind}")
            return
        if not metric.description:
            self.faults.append(f"{metric.name} has no description")
        for point in getattr(metric, kind).data_points:
            if not point.time_unix_nano or (kind != "gauge" and not point.start_time_unix_nano):
                self.faults.append(f"{metric.name} lacks a time")
            attributes = _plain(point.attributes)
            if kind == "histogram":
                if len(point.bucket_counts) != len(point.explicit_bounds) + 1:
                    self.faults.append(f"{metric.name} has not one bucket more than bounds")
                if sum(point.bucket_counts) != point.count:
                    self.faults.append(f"{metric.name}: its buckets do not add up to its count")
                yield ReceivedPoint(
                    **common,
                    attributes=attributes,
                    value=point.count,
                    total=point.sum,
                    bounds=tuple(point.explicit_bounds),
                    buckets=tuple(point.bucket_counts),
                    examples=tuple(example.trace_id.hex() for example in point.exemplars),
                )
            else:
                value = getattr(point, point.WhichOneof("value"))
                yield ReceivedPoint(**common, attributes=attributes, value=value)


def _plain(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in attributes
    }
