"""One trace from the client's call to the message on the queue, and no content in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc.aio
import pytest

from headrace.client.client import HeadraceClient
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.propagation import extract
from headrace.runtime.settings import Settings
from headrace.v1.inference_pb2_grpc import InferenceServiceStub
from tests.gateway.acting_router import LIMIT_S, ActingRouter
from tests.gateway.conftest import OVERRIDES, running_gateway
from tests.gateway.test_admission import message
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan

pytestmark = pytest.mark.integration

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_without_telemetry_the_trace_passes_through_unchanged(
    fresh_nats: EmbeddedNats, settings_for: Callable[..., Settings], router: ActingRouter
) -> None:
    """A hop that records nothing cuts no trace in two."""
    off = settings_for(fresh_nats, **OVERRIDES, **{"traces.recent": False})
    async with running_gateway(off) as gateway, grpc.aio.insecure_channel(gateway.address) as channel:
        await asyncio.wait_for(router.joins.get(), LIMIT_S)
        calling = InferenceServiceStub(channel).Generate(
            message(), metadata=(("traceparent", PARENT), ("tracestate", "vendor=1"))
        )
        taken = await router.take()
        trace = extract(taken.message.headers)
        assert (trace.traceparent, trace.tracestate) == (PARENT, "vendor=1")
        calling.cancel()


async def test_the_span_of_the_publish_is_the_parent_of_what_follows(
    settings: Settings, router: ActingRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Call, publish, message: each the child of the one before; the call says how the request ended."""
    secret = "nobody may see this sentence"
    async with OtlpReceiver() as receiver:
        for name, value in receiver.environment().items():
            monkeypatch.setenv(name, value)
        async with (
            running_gateway(settings) as gateway,
            grpc.aio.insecure_channel(gateway.address) as channel,
        ):
            async with asyncio.timeout(LIMIT_S):
                await router.joins.get()
            answering = asyncio.create_task(router.answer("Paris"))
            calling = InferenceServiceStub(channel).Generate(
                message(prompt=secret, stop=(secret,)), metadata=(("traceparent", PARENT),)
            )
            async for _ in calling:
                pass
            taken = await answering
        spans: list[ReceivedSpan] = await receiver.wait_for(lambda spans: len(spans) >= 2)
    call = next(span for span in spans if span.kind == "SERVER")
    send = next(span for span in spans if span.kind == "PRODUCER")
    assert call.name == "headrace.v1.InferenceService/Generate"
    assert f"{call.trace_id}-{call.parent_id}" in PARENT
    assert send.parent_id == call.span_id
    assert extract(taken.message.headers).traceparent == send.traceparent
    assert send.attributes["messaging.destination.name"] == "hr.v1.req.tiny.normal.default"
    assert call.attributes["headrace.request.id"] == taken.id
    assert call.attributes["headrace.outcome"] == "completed"
    assert call.attributes["gen_ai.usage.output_tokens"] == 5
    assert "Paris" not in repr(spans)
    assert secret not in repr(spans)


async def test_a_refused_publish_leaves_no_text_in_its_span(
    settings: Settings, router: ActingRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The span of a duplicate is there, without an exception's text."""
    async with OtlpReceiver() as receiver:
        for name, value in receiver.environment().items():
            monkeypatch.setenv(name, value)
        async with running_gateway(settings) as gateway, HeadraceClient(gateway.address) as client:
            accepted = await client.submit(model="tiny", prompt="p")
            with pytest.raises(Exception, match="already in use"):
                await client.submit(model="tiny", prompt="q", request_id=accepted.request_id)
        spans = await receiver.wait_for(lambda spans: len(spans) >= 4)
    assert not [span.events for span in spans if span.events]
