"""What the broker does not take is refused clearly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.errors import Overloaded
from headrace.contract.subjects import REQUESTS_STREAM
from headrace.contract.values import Accepted
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings, Settings
from tests.gateway.acting_router import ActingRouter
from tests.gateway.conftest import OVERRIDES

pytestmark = pytest.mark.integration


class TestSmallBroker:
    """A broker that takes little."""

    @pytest.fixture
    def fresh_nats(self, tmp_path: Path) -> Iterator[EmbeddedNats]:
        limits = NatsSettings(port=0, store_dir=tmp_path / "nats", max_payload_bytes=64 * 1024)
        with EmbeddedNats(limits) as server:
            yield server

    @pytest.fixture
    def settings(self, fresh_nats: EmbeddedNats, settings_for: Callable[..., Settings]) -> Settings:
        return settings_for(fresh_nats, **OVERRIDES, **{"queues.max_messages_per_queue": 2})

    async def test_every_size_around_the_limit_is_taken(
        self, client: HeadraceClient, router: ActingRouter
    ) -> None:
        """As a message, or by reference: no size slips through our check and is then refused by the server, which would
        end the connection.
        """
        whole = referred = 0
        for size in range(65_060, 65_536, 24):
            await client.submit(model="tiny", prompt="x" * size)
            taken = await router.take()
            await taken.message.ack_sync()
            if taken.request.payload is None:
                whole += 1
                assert len(taken.request.prompt) == size
            else:
                referred += 1
        assert whole > 2
        assert referred > 2

    async def test_a_full_queue_is_refused_with_a_time_to_try_again(
        self, client: HeadraceClient, router: ActingRouter
    ) -> None:
        """And another queue still takes requests."""
        for _ in range(2):
            await client.submit(model="tiny", prompt="p")
        with pytest.raises(Overloaded, match="queue of tiny, normal, tenant default is full") as caught:
            await client.complete(model="tiny", prompt="p")
        assert 1.0 <= caught.value.retry_after_s <= 60.0
        assert isinstance(await client.submit(model="tiny", prompt="p", priority="high"), Accepted)


async def test_a_stream_that_is_gone_is_declared_anew(router: ActingRouter, client: HeadraceClient) -> None:
    """An operator's accident ends no process, and the client does not notice it."""
    await router._js.delete_stream(REQUESTS_STREAM)
    assert isinstance(await client.submit(model="tiny", prompt="p"), Accepted)
    assert (await router._js.stream_info(REQUESTS_STREAM)).state.messages == 1
