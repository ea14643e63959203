"""What a gateway remembers of recent requests, asked over AdminService; the broker is real, the router is played."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from nats.aio.client import Client

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.errors import InvalidRequest, NotFound, Unavailable
from headrace.contract.span_wire import bundle_bytes, span_bytes
from headrace.contract.spans import RequestSpan, RequestTrace, SpanBundle, SpanRecord
from headrace.contract.subjects import span_subject
from headrace.runtime import trace_names as names
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import Settings
from tests.gateway.acting_router import LIMIT_S, ActingRouter
from tests.gateway.conftest import OVERRIDES, RunningGateway, running_gateway

pytestmark = pytest.mark.integration

TRACE = "0af7651916cd43dd8448eb211c80319c"


def hold(request_id: str, outcome: str = "completed") -> bytes:
    """A bundle of a router, with its span of a request."""
    span = SpanRecord(
        trace_id=TRACE,
        span_id="b7ad6b7169203331",
        name=names.SPAN_PROCESS_REQUEST,
        start_ns=10**18,
        end_ns=10**18 + 10**9,
        attributes={names.REQUEST_ID: request_id, names.OUTCOME: outcome},
    )
    told = RequestSpan(request_ids=(request_id,), trace_id=TRACE, span=span_bytes(span))
    return bundle_bytes(SpanBundle(process="router", instance="r-1", spans=(told,)))


async def until_known(admin: AdminClient, request_id: str, spans: int = 1) -> RequestTrace:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                found = await admin.trace(request_id)
                if len(found.spans) >= spans:
                    return found
            except NotFound:
                pass
            await asyncio.sleep(0.05)  # what other processes tell has no event that a client could wait for


async def test_spans_of_any_process_are_found_by_request_and_by_trace(
    gateway: RunningGateway, nc: Client
) -> None:
    """With the cause in words; the list has the latest first, and only what failed where that is asked for."""
    async with AdminClient(gateway.address) as admin:
        await nc.publish(span_subject("router", "r-1"), hold("first"))
        await nc.publish(span_subject("router", "r-1"), b"\xff\xff no bundle")
        await nc.publish(span_subject("router", "r-1"), hold("second", outcome="rejected"))
        found = await until_known(admin, "second")
        assert found.causes == ("It was refused with no reason, before its first token.",)
        assert (found.summary.outcome, found.spans[0].instance) == ("rejected", "r-1")
        by_trace = await admin.trace(TRACE)
        assert (by_trace.summary.request_id, by_trace.others) == ("second", ("first",))
        listed = await admin.traces()
        assert [each.request_id for each in listed.traces] == ["second", "first"]
        assert listed.memory.on
        assert listed.memory.requests == 2
        assert [each.request_id for each in (await admin.traces(failed_only=True)).traces] == ["second"]
        assert len((await admin.traces(1)).traces) == 1


async def test_its_own_spans_are_remembered_without_any_exporter(
    gateway: RunningGateway, router: ActingRouter
) -> None:
    """A submitted request's call and publish are there within moments."""
    async with HeadraceClient(gateway.address) as client, AdminClient(gateway.address) as admin:
        accepted = await client.submit(model="tiny", prompt="hello")
        found = await until_known(admin, accepted.request_id, spans=2)
    assert [span.name for span in found.spans] == [
        "headrace.v1.InferenceService/Submit",
        names.SPAN_SEND_REQUEST,
    ]
    assert found.spans[1].parent_id == found.spans[0].span_id


async def test_what_is_not_there_is_an_error_that_says_so(gateway: RunningGateway) -> None:
    """Unknown ids, no id, and a limit that is too high."""
    async with AdminClient(gateway.address) as admin:
        with pytest.raises(NotFound, match="nobody"):
            await admin.trace("nobody")
        with pytest.raises(InvalidRequest) as refused:
            await admin.trace("")
        assert refused.value.field == "id"
        with pytest.raises(InvalidRequest) as too_many:
            await admin.traces(1001)
        assert too_many.value.field == "limit"


async def test_a_gateway_that_remembers_nothing_says_so(
    fresh_nats: EmbeddedNats, settings_for: Callable[..., Settings], nc: Client
) -> None:
    """With traces.recent off it neither listens nor makes spans, and the list says that it is off."""
    off = settings_for(fresh_nats, **OVERRIDES, **{"traces.recent": False})
    async with running_gateway(off) as gateway, AdminClient(gateway.address) as admin:
        await nc.publish(span_subject("router", "r-1"), hold("first"))
        with pytest.raises(Unavailable, match=r"traces\.recent"):
            await admin.trace("first")
        listed = await admin.traces()
        assert (listed.traces, listed.memory.on) == ((), False)
