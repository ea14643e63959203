"""How long a server's calls take and how they end, and how many are being answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from headrace.runtime import metric_names as names
from headrace.runtime import trace_names
from headrace.runtime.grpc_deadlines import code_of_cancelled
from headrace.runtime.grpc_handlers import Continuation, Handler, ServicerContext, wrap
from headrace.runtime.grpc_tracing import INTERNAL_STREAMS, PLUMBING, code_name
from headrace.runtime.metrics import Metrics
from headrace.runtime.propagation import current_trace


class CallMetrics(grpc.aio.ServerInterceptor):
    """Measures each call but those of probes and tools; of the streams between processes only how many there are, as
    they live as long as their peers. What gRPC itself refuses, beyond the most calls that may run, is not seen here.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._duration = metrics.histogram(names.RPC_SERVER_DURATION)
        self._active = 0
        metrics.watch(names.RPC_ACTIVE, lambda: {(): self._active})

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not self._duration.on or method.startswith(PLUMBING):
            return handler
        return wrap(handler, lambda context: self._measured(method, context))

    @asynccontextmanager
    async def _measured(self, method: str, context: ServicerContext) -> AsyncIterator[None]:
        began_s = time.perf_counter()
        self._active += 1
        code = "UNKNOWN"
        try:
            yield
            code = code_name(context)
        except asyncio.CancelledError:
            code = code_of_cancelled(context, time.perf_counter() - began_s)
            raise
        except grpc.aio.AbortError:
            code = code_name(context)
            raise
        finally:
            self._active -= 1
            if method not in INTERNAL_STREAMS:
                self._duration.record(
                    time.perf_counter() - began_s,
                    trace_names.SYSTEM_GRPC,
                    method.removeprefix("/"),
                    code,
                    trace=current_trace(),
                )
