"""What waits to be sent to a receiver: joined while it is slow, and in messages that gRPC takes afterwards."""

from __future__ import annotations

import asyncio

from headrace.contract.deliver import DeliveryMessage
from headrace.contract.deliver_wire import encode_delivery_message
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk, Usage
from headrace.router.outbox import MAX_BYTES, Outbox, Sending
from headrace.runtime.grpc_channel import MAX_MESSAGE_BYTES


def _tokens(index: int, count: int) -> TokenChunk:
    ids = tuple(range(200_000, 200_000 + count))
    return TokenChunk(first_index=index, token_ids=ids, text="é 日" * count, text_lengths=(3,) * count)


async def test_tokens_of_one_request_wait_as_one_chunk() -> None:
    """And its end goes with them."""
    outbox = Outbox()
    outbox.tokens("r", _tokens(0, 2))
    outbox.tokens("r", _tokens(2, 3))
    end = Outcome(request_id="r", kind=OutcomeKind.COMPLETED, model="m", usage=Usage())
    outbox.finished("r", end)
    sending = await outbox.take()
    (delivery,) = sending.deliveries
    assert delivery.tokens is not None
    assert (delivery.tokens.first_index, len(delivery.tokens.token_ids)) == (0, 5)
    assert (delivery.finished, sending.catalogue, len(outbox)) == (end, None, 0)


async def test_what_gathered_during_a_long_stall_goes_in_messages_of_bounded_size() -> None:
    """All of it, each request once, though together it is far more than a message takes."""
    outbox = Outbox()
    for number in range(1_000):
        outbox.tokens(f"r{number}", _tokens(0, 4_096))
    seen, sizes = [], []
    async with asyncio.timeout(30):
        while len(outbox):
            deliveries = (await outbox.take()).deliveries
            sizes.append(encode_delivery_message(DeliveryMessage(deliveries=deliveries)).ByteSize())
            seen += [delivery.request_id for delivery in deliveries]
    assert sum(sizes) > 2 * MAX_MESSAGE_BYTES
    assert max(sizes) < 2 * MAX_BYTES < MAX_MESSAGE_BYTES
    assert seen == [f"r{number}" for number in range(1_000)]


async def test_a_woken_outbox_gives_nothing_where_nothing_waits() -> None:
    outbox = Outbox()
    outbox.wake()
    assert await outbox.take() == Sending(deliveries=(), catalogue=None, recall=())
