"""The common values on the wire, where a plain round trip does not say it all."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contract.client_wire import decode_generate_response, decode_result_response
from headrace.contract.common_wire import (
    decode_duration,
    decode_sampling,
    decode_timestamp,
    decode_usage,
    encode_duration,
    encode_failure,
    encode_outcome,
    encode_position,
    encode_sampling,
    encode_timestamp,
    encode_usage,
)
from headrace.contract.deliver import DeliveryMessage, GatewayJoin, GatewayMessage, HeldStream
from headrace.contract.deliver_wire import (
    decode_delivery_message,
    decode_gateway_message,
    encode_delivery_message,
    encode_gateway_message,
)
from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.inference_wire import decode_generate, decode_result_key
from headrace.contract.requests import Request
from headrace.contract.values import GREEDY, Failure, Outcome, Priority, QueuePosition, Sampling, Usage
from headrace.v1 import common_pb2, inference_pb2, router_pb2
from tests.contract import strategies as values

SIX_PLACES = st.integers(0, 2_000_000).map(lambda millionths: millionths / 1_000_000)


# Numbers.


@settings(derandomize=True)
@given(SIX_PLACES)
def test_a_number_of_six_places_survives_a_32_bit_float(value: float) -> None:
    """0.7 as a 32-bit float is 0.699999988: it must still be the batching key of 0.7."""
    assert struct.unpack("f", struct.pack("f", 0.7))[0] != 0.7
    sampling = Sampling(temperature=value, top_p=value, repetition_penalty=value)
    received = common_pb2.Sampling.FromString(encode_sampling(sampling).SerializeToString())
    assert decode_sampling(received) == sampling


def test_absent_sampling_is_greedy_and_a_zero_is_not_absent() -> None:
    """`top_p = 0` is a mistake to be told, not the default."""
    assert decode_sampling(common_pb2.Sampling()) == GREEDY
    zeros = decode_sampling(common_pb2.Sampling(top_p=0.0, repetition_penalty=0.0))
    assert (zeros.top_p, zeros.repetition_penalty) == (0.0, 0.0)


@settings(derandomize=True)
@given(st.floats(0, 1e9))
def test_a_duration_comes_back_to_the_microsecond(seconds: float) -> None:
    """The wire has nanoseconds, a float of that size has not."""
    assert decode_duration(encode_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


def test_a_negative_duration_is_none_at_all() -> None:
    """Clocks of two machines may disagree: nobody waits for less than no time."""
    assert decode_duration(encode_duration(-0.5)) == 0.0


@settings(derandomize=True)
@given(st.floats(0, 4e9))
def test_a_time_comes_back_to_the_microsecond(unix_s: float) -> None:
    """As protobuf's own reading of it does."""
    stamp = encode_timestamp(unix_s)
    assert decode_timestamp(stamp) == pytest.approx(unix_s, abs=1e-6)
    assert decode_timestamp(Timestamp(seconds=-1, nanos=500_000_000)) == -0.5


# What is absent.


def test_the_first_token_s_time_is_absent_where_none_was_made() -> None:
    """0 seconds would read as an instant answer."""
    none = encode_usage(Usage(prompt_tokens=3, total_s=2.0))
    assert not none.HasField("first_token_time")
    assert decode_usage(none).first_token_s == 0.0
    assert encode_usage(Usage(output_tokens=1)).HasField("first_token_time")


def test_an_unknown_wait_is_absent_and_no_wait_is_zero() -> None:
    """A client shows nothing for the one and `now` for the other."""
    assert not encode_position(QueuePosition(ahead=0, estimated_wait_s=None)).HasField("estimated_wait")
    assert encode_position(QueuePosition(ahead=0, estimated_wait_s=0.0)).HasField("estimated_wait")


def test_a_failure_that_a_new_try_cannot_mend_has_no_retry_time() -> None:
    """It is absent, not zero."""
    assert not encode_failure(Failure(code="C", message="m")).HasField("retry_after")
    assert encode_failure(Failure(code="C", message="m", retry_after_s=0.5)).HasField("retry_after")


@settings(derandomize=True, deadline=None, max_examples=30)
@given(values.OUTCOMES)
def test_the_end_of_a_stream_carries_no_output(outcome: Outcome) -> None:
    """Its chunks did; the durable outcome has it."""
    end = encode_outcome(outcome, whole=False)
    assert (end.text, list(end.token_ids)) == ("", [])
    whole = encode_outcome(replace(outcome, text="", token_ids=(), text_lengths=(), payload=None), whole=True)
    assert end == whole


def test_no_news_of_the_catalogue_is_not_an_empty_one() -> None:
    """None is `unchanged`; an empty catalogue says that no model is left."""
    for catalogue in (None, ()):
        message = encode_delivery_message(DeliveryMessage(catalogue=catalogue))
        received = router_pb2.DeliveryMessage.FromString(message.SerializeToString())
        assert decode_delivery_message(received).catalogue == catalogue


# What another version says.


def test_an_event_or_message_of_a_newer_version_is_none() -> None:
    """It is skipped, not an error."""
    unknown = b"\xfa\x01\x02hi"  # field 31
    assert decode_generate_response(inference_pb2.GenerateResponse.FromString(unknown)) is None
    assert decode_gateway_message(router_pb2.GatewayMessage.FromString(unknown)) == GatewayMessage()


def test_a_result_without_an_outcome_is_malformed() -> None:
    """A client must not take it for an empty answer."""
    with pytest.raises(MalformedMessage, match="holds no outcome"):
        decode_result_response(inference_pb2.GetResultResponse())


def test_a_held_stream_names_its_tenant() -> None:
    """Two tenants may use one id."""
    join = GatewayJoin(gateway_id="g", held=(HeldStream(request_id="r", tenant="t"),))
    assert encode_gateway_message(GatewayMessage(join=join)).join.held[0].tenant == "t"


# What a client may leave out.


def test_a_client_needs_to_name_the_model_only() -> None:
    """Tenant, priority, id and sampling have defaults."""
    assert decode_generate(inference_pb2.GenerateRequest(model="m", prompt="hi")) == Request(
        id="", tenant="default", model="m", priority=Priority.NORMAL, prompt="hi"
    )


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (inference_pb2.GenerateRequest(prompt="hi"), "model"),
        (inference_pb2.GenerateRequest(model="a.b"), "model"),
        (inference_pb2.GenerateRequest(model="m", tenant="*"), "tenant"),
        (inference_pb2.GenerateRequest(model="m", request_id="1"), "request_id"),
        (inference_pb2.GenerateRequest(model="m", priority=9), "priority"),  # type: ignore[arg-type]
    ],
)
def test_names_that_are_none_are_refused_by_their_field(
    message: inference_pb2.GenerateRequest, field: str
) -> None:
    """They would become a part of a subject."""
    with pytest.raises(InvalidRequest) as refused:
        decode_generate(message)
    assert refused.value.field == field


def test_a_result_is_asked_for_by_tenant_and_id() -> None:
    """The tenant has a default, the id has none."""
    message = inference_pb2.GetResultRequest(request_id="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert decode_result_key(message) == ("default", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    with pytest.raises(InvalidRequest, match="request_id"):
        decode_result_key(inference_pb2.CancelRequest(tenant="t"))
    with pytest.raises(InvalidRequest, match="tenant"):
        decode_result_key(inference_pb2.CancelRequest(tenant="a.b", request_id="01ARZ3NDEKTSV4RRFFQ69G5FAV"))
