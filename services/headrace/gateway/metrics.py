"""What the gateway counts and measures. Once per request, never per token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headrace.contract.errors import HeadraceError
from headrace.contract.values import TraceContext
from headrace.runtime import metric_names as names
from headrace.runtime import trace_names
from headrace.runtime.metrics import Metrics


class GatewayMetrics:
    """Records what happens at the gateway. Used on the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._publish = metrics.histogram(names.PUBLISH_DURATION)
        self._joins = metrics.tally(names.JOINS)

    def joined(self) -> None:
        """A router's stream is up."""
        self._joins.add()

    @contextmanager
    def publishing(self, trace: TraceContext) -> Iterator[None]:
        """Around a publish, until the broker's word."""
        began_s, code = time.perf_counter(), ""
        try:
            yield
        except HeadraceError as error:
            code = error.code
            raise
        finally:
            self._publish.record(
                time.perf_counter() - began_s, trace_names.SYSTEM_NATS, "send", code, trace=trace
            )


def watch_gateway(metrics: Metrics, *, streams: Callable[[], int], routers: Callable[[], int]) -> None:
    """Has the open streams and the connected routers read."""
    metrics.watch(names.STREAMS, lambda: {(): streams()})
    metrics.watch(names.ROUTERS, lambda: {(): routers()})
