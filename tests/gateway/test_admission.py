"""What may not go in is refused with a status, a code and the field at fault, and reaches no queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.errors import InvalidRequest, Overloaded, UnknownModel
from headrace.contract.inference_wire import encode_generate
from headrace.contract.requests import ChatMessage, Request
from headrace.contract.subjects import REQUESTS_STREAM
from headrace.contract.values import Priority, Sampling
from headrace.runtime.grpc_status import problem_of
from tests.gateway.acting_router import ActingRouter
from tests.gateway.conftest import RunningGateway, running_gateway

if TYPE_CHECKING:
    from headrace.v1.inference_pb2_grpc import InferenceServiceAsyncStub

pytestmark = pytest.mark.integration


def message(**changes: Any) -> Any:
    """A good GenerateRequest, but for `changes`."""
    values: dict[str, Any] = {
        "id": "",
        "tenant": "default",
        "model": "tiny",
        "priority": Priority.NORMAL,
        "prompt": "p",
    }
    return encode_generate(Request(**(values | changes)))


def with_raw(change: Callable[[Any], None]) -> Any:
    """A good GenerateRequest that `change` makes into one that our own encoder would not write."""
    raw = message()
    change(raw)
    return raw


def far_deadline(raw: Any) -> None:
    raw.deadline.seconds = 2**60


def unknown_priority(raw: Any) -> None:
    raw.priority = 17


INVALID = grpc.StatusCode.INVALID_ARGUMENT
BAD = [
    ("request_id", INVALID, message(id="not-a-ulid")),
    ("tenant", INVALID, message(tenant="a.b")),
    ("tenant", INVALID, message(tenant="x" * 65)),
    ("model", INVALID, message(model="")),
    ("model", INVALID, message(model="a b>")),
    ("model", grpc.StatusCode.NOT_FOUND, message(model="nobody-has-it")),
    ("priority", INVALID, with_raw(unknown_priority)),
    ("prompt", INVALID, message(prompt="")),
    ("prompt", INVALID, message(messages=(ChatMessage(role="user", content="x"),))),
    ("prompt", INVALID, message(prompt="x" * (1024 * 1024 + 1))),
    ("messages[1].role", INVALID, message(prompt="", messages=(ChatMessage(role="user", content="x"),
        ChatMessage(role="", content="x")))),
    ("messages", INVALID, message(prompt="", messages=(ChatMessage(role="user", content=""),))),
    ("sampling.temperature", INVALID, message(sampling=Sampling(temperature=2.5))),
    ("sampling.temperature", INVALID, message(sampling=Sampling(temperature=float("nan")))),
    ("sampling.top_k", INVALID, message(sampling=Sampling(top_k=1001))),
    ("sampling.top_p", INVALID, message(sampling=Sampling(top_p=0.0))),
    ("sampling.top_p", INVALID, message(sampling=Sampling(top_p=float("inf")))),
    ("sampling.repetition_penalty", INVALID, message(sampling=Sampling(repetition_penalty=3.0))),
    ("max_tokens", INVALID, message(max_tokens=32_769)),
    ("stop", INVALID, message(stop=tuple("abcdefghijklmnopq"))),
    ("stop[0]", INVALID, message(stop=("",))),
    ("deadline", grpc.StatusCode.DEADLINE_EXCEEDED, message(deadline_s=time.time() - 60)),
    ("deadline", INVALID, with_raw(far_deadline)),
]  # fmt: skip


async def test_each_bad_field_is_named(
    stub: InferenceServiceAsyncStub, router: ActingRouter, nc: Any
) -> None:
    """Generate and Submit refuse alike, and nothing comes to a queue."""
    for field, status, bad in BAD:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Generate(bad):
                pass
        problem = problem_of(caught.value)
        assert (problem.field, problem.status) == (field, status), problem
        assert field in problem.message
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Submit(_submit(bad))
        assert problem_of(caught.value).field == field
    info = await nc.jetstream().stream_info(REQUESTS_STREAM)
    assert info.state.messages == 0


def _submit(generate: Any) -> Any:
    from headrace.contract.task_wire import encode_submit

    whole = encode_submit(Request(id="", tenant="default", model="tiny", priority=Priority.NORMAL))
    whole.request.CopyFrom(generate)
    return whole


async def test_an_unknown_model_is_told_which_there_are(client: HeadraceClient) -> None:
    """The caller can choose from the error alone."""
    with pytest.raises(UnknownModel) as caught:
        await client.complete(model="huge", prompt="p")
    assert caught.value.model == "huge"
    assert caught.value.known == ("tiny",)


async def test_bytes_that_are_no_message_are_refused_clearly(
    channel: grpc.aio.Channel, gateway: RunningGateway
) -> None:
    """A client that speaks another protocol learns so, from a method with one answer and from one with many."""
    generate: Any = channel.unary_stream("/headrace.v1.InferenceService/Generate")
    cancel: Any = channel.unary_unary("/headrace.v1.InferenceService/Cancel")
    for call in (generate(b"\xff\xff\xff").read(), cancel(b"\xff\xff\xff")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        problem = problem_of(caught.value)
        assert (problem.status, problem.code) == (INVALID, "MALFORMED_MESSAGE")


async def test_a_message_over_the_limit_is_refused_with_both_sizes(client: HeadraceClient) -> None:
    """Before anything of it is read."""
    with pytest.raises(
        InvalidRequest, match=r"is \d+ bytes large; the gateway takes \d+ \(gateway.max_request_bytes\)"
    ):
        await client.complete(model="tiny", prompt="x" * (5 * 1024 * 1024))


async def test_one_stream_too_many_is_refused_with_a_time_to_try_again(
    settings: Any, router: ActingRouter, settings_for: Any, fresh_nats: Any
) -> None:
    """Those that are open go on."""
    from tests.gateway.conftest import OVERRIDES

    small = settings_for(fresh_nats, **OVERRIDES, **{"gateway.max_concurrent_streams": 1})
    async with running_gateway(small) as gateway, HeadraceClient(gateway.address) as client:
        first = client.generate(model="tiny", prompt="p")
        await anext(first)
        with pytest.raises(Overloaded) as caught:
            await client.complete(model="tiny", prompt="p")
        assert caught.value.retry_after_s > 0
        taken = await router.take()
        await router.finish(taken, "")
        assert [event async for event in first]
