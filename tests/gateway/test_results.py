"""Submit, GetResult, Cancel and ListModels."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.client_wire import encode_get_result
from headrace.contract.deliver import DeliveryMessage
from headrace.contract.errors import DeadlinePassed, InvalidRequest, NotFound
from headrace.contract.ids import new_request_id
from headrace.contract.queue_wire import encode_result
from headrace.contract.subjects import (
    CONTENT_TYPE_JSON,
    HEADER_CONTENT_TYPE,
    RESULTS_STREAM,
    cancel_subject,
    result_subject,
)
from headrace.contract.values import OutcomeKind
from headrace.runtime.grpc_status import problem_of
from headrace.runtime.settings import Settings
from tests.gateway.acting_router import LIMIT_S, ActingRouter, completed, load
from tests.gateway.conftest import running_gateway

if TYPE_CHECKING:
    from headrace.v1.inference_pb2_grpc import InferenceServiceAsyncStub

pytestmark = pytest.mark.integration


async def test_a_submitted_request_is_answered_by_get_result(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """Nobody holds a stream for it, and the outcome is whole."""
    accepted = await client.submit(model="tiny", prompt="p", timeout_s=60)
    taken = await router.take()
    assert taken.id == accepted.request_id
    assert taken.request.gateway == ""
    assert taken.request.deadline_s is not None
    assert taken.request.deadline_s - time.time() == pytest.approx(60, abs=5)
    await router.finish(taken, "Paris")
    outcome = await client.result(accepted.request_id, wait_s=LIMIT_S)
    assert outcome == completed(taken.id, "Paris")


async def test_a_deadline_in_the_past_is_refused(client: HeadraceClient) -> None:
    """No compute is spent, and the error says how late it is."""
    with pytest.raises(DeadlinePassed) as caught:
        await client.submit(model="tiny", prompt="p", timeout_s=-5)
    assert caught.value.late_s == pytest.approx(5, abs=2)


async def test_get_result_waits_for_the_outcome(client: HeadraceClient, router: ActingRouter) -> None:
    """It is answered as soon as the outcome is there."""
    accepted = await client.submit(model="tiny", prompt="p")
    taken = await router.take()
    waiting = asyncio.create_task(client.result(accepted.request_id, wait_s=60))
    await asyncio.sleep(0.1)  # so that it waits by now; where it does not, it finds the outcome at once
    assert not waiting.done()
    began = time.monotonic()
    await router.store(taken, completed(taken.id, "Paris"))
    assert (await waiting).text == "Paris"
    assert time.monotonic() - began < 5


async def test_get_result_is_not_fooled_by_an_outcome_that_the_broker_refused(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """A second outcome is heard by who waits for the subject, but the first one counts."""
    accepted = await client.submit(model="tiny", prompt="p")
    taken = await router.take()
    await router.store(taken, completed(taken.id, "first"))
    waiting = asyncio.create_task(client.result(accepted.request_id, wait_s=60))
    with pytest.raises(Exception, match="maximum messages per subject"):
        await router._js.publish(
            result_subject("default", taken.id), encode_result(completed(taken.id, "second"), as_json=False)
        )
    assert (await waiting).text == "first"


async def test_an_outcome_that_a_producer_gets_as_json_can_be_read(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """Who asked over NATS in JSON and who fetches over gRPC need not be the same."""
    request_id = new_request_id()
    await router._js.publish(
        result_subject("blue", request_id),
        encode_result(completed(request_id, "Größe"), as_json=True),
        stream=RESULTS_STREAM,
        headers={HEADER_CONTENT_TYPE: CONTENT_TYPE_JSON},
    )
    assert (await client.result(request_id, tenant="blue")).text == "Größe"
    with pytest.raises(NotFound):
        await client.result(request_id, tenant="red")


async def test_no_outcome_is_not_found(client: HeadraceClient) -> None:
    """At once, or after the wait that was asked for."""
    request_id = new_request_id()
    with pytest.raises(NotFound, match=request_id):
        await client.result(request_id)
    began = time.monotonic()
    with pytest.raises(NotFound):
        await client.result(request_id, wait_s=0.3)
    assert time.monotonic() - began >= 0.3


async def test_a_bad_id_or_wait_is_named(client: HeadraceClient, stub: InferenceServiceAsyncStub) -> None:
    """The field at fault is in the error."""
    for calling in (client.result("nonsense"), client.cancel("nonsense")):
        with pytest.raises(InvalidRequest) as caught:
            await calling
        assert caught.value.field == "request_id"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.GetResult(encode_get_result("default", new_request_id(), 301))
    assert problem_of(failed.value).field == "wait"


async def test_cancel_ends_a_running_request(client: HeadraceClient, router: ActingRouter) -> None:
    """The router that holds it is asked, and the stream ends with the outcome."""
    generating = asyncio.create_task(client.complete(model="tiny", prompt="p"))
    taken = await router.take()
    assert await client.cancel(taken.id) is OutcomeKind.CANCELLED
    assert (await generating).kind is OutcomeKind.CANCELLED
    assert (await client.result(taken.id)).kind is OutcomeKind.CANCELLED


async def test_cancel_ends_a_request_that_no_router_holds(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """The outcome is written here, and the client's own stream ends with it."""
    generating = asyncio.create_task(client.complete(model="tiny", prompt="p"))
    taken = await router.take()
    router.holds.clear()
    assert await client.cancel(taken.id) is OutcomeKind.CANCELLED
    assert (await generating).kind is OutcomeKind.CANCELLED


async def test_cancel_at_another_gateway_ends_the_stream_of_a_request_that_no_router_holds(
    client: HeadraceClient, router: ActingRouter, settings: Settings
) -> None:
    """No router tells of it; the gateways hear that it is asked. A cancellation that nobody obeys ends nothing."""
    generating = asyncio.create_task(client.complete(model="tiny", prompt="p"))
    taken = await router.take()
    router.holds.clear()
    await router._nc.publish(cancel_subject("default", taken.id))
    await router._nc.publish("hr.v1.cancel.default.no.id")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(generating), 0.3)
    async with running_gateway(settings) as other, HeadraceClient(other.address) as elsewhere:
        assert await elsewhere.cancel(taken.id) is OutcomeKind.CANCELLED
        async with asyncio.timeout(LIMIT_S):
            assert (await generating).kind is OutcomeKind.CANCELLED


async def test_cancel_gives_the_outcome_that_was_there_before(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """Too late is no error."""
    accepted = await client.submit(model="tiny", prompt="p")
    await router.finish(await router.take(), "done")
    assert await client.cancel(accepted.request_id) is OutcomeKind.COMPLETED
    assert (await client.result(accepted.request_id)).text == "done"


async def test_of_many_cancellations_at_once_all_get_the_same_outcome(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """The broker keeps one."""
    request_id = new_request_id()
    kinds = await asyncio.gather(*(client.cancel(request_id) for _ in range(10)))
    assert set(kinds) == {OutcomeKind.CANCELLED}


async def test_list_models_follows_the_routers(client: HeadraceClient, router: ActingRouter) -> None:
    """What a router announces can be asked for from then on."""
    assert [model.name for model in await client.models()] == ["tiny"]
    router.tell(DeliveryMessage(catalogue=(load("tiny"), load("large"))))
    async with HeadraceClient(client.address) as other, asyncio.timeout(LIMIT_S):
        while [model.name for model in await other.models()] != ["large", "tiny"]:
            pass  # the router's word is on its way
