"""Channels to our servers, and the connection settings on which both ends have to agree."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The largest message, either way: room for a batch of requests of NATS's default largest size of 1 MiB."""

Options = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """How soon a peer that vanished without a word is noticed: after `time_s` + `timeout_s` at the latest.

    Both ends ping, and the server takes pings twice as often as a client sends them; one that pings more often than its
    server takes is cut off with `too_many_pings`. So both ends are to be made from equal values.
    """

    time_s: float = 10.0
    """Silence after which a ping is sent. gRPC sends no more than one a second."""
    timeout_s: float = 5.0
    """Wait for its answer, after which the connection is given up."""

    def _pings(self) -> Options:
        return (
            ("grpc.keepalive_time_ms", int(self.time_s * 1000)),
            ("grpc.keepalive_timeout_ms", int(self.timeout_s * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            # grpcio 1.85 waits this long for a ping's answer, 60 s by default, whatever keepalive_timeout_ms says.
            ("grpc.http2.ping_timeout_ms", int(self.timeout_s * 1000)),
            ("grpc.http2.max_pings_without_data", 0),  # 0 = no limit: a stream may be silent for hours
        )

    def client_options(self) -> Options:
        return self._pings()

    def server_options(self) -> Options:
        return (*self._pings(), ("grpc.http2.min_ping_interval_without_data_ms", int(self.time_s * 500)))


KEEPALIVE = Keepalive()


def size_options(max_message_bytes: int) -> Options:
    """Options of either end for the largest message."""
    return (
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    )


def open_channel(
    address: str, *, keepalive: Keepalive = KEEPALIVE, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> grpc.aio.Channel:
    """A channel to `host:port`, used as `async with`. Connects at the first call; reconnects within about 2 s.

    Each channel has a connection of its own, which `http_proxy` does not divert: these are addresses inside the house.
    """
    return grpc.aio.insecure_channel(
        address,
        options=(
            *keepalive.client_options(),
            *size_options(max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 1000),  # also how long one attempt to connect may take
            (
                "grpc.max_reconnect_backoff_ms",
                2000,
            ),  # gRPC's own 120 s would leave a worker idle after a restart
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ),
    )
