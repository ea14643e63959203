"""Channels to our servers, and the connection settings on which both ends have to agree."""

from __future__ import annotations

import grpc.aio

from headrace.runtime.keepalive import KEEPALIVE, Keepalive, Options

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The largest message, either way: room for a batch of requests of NATS's default largest size of 1 MiB."""


def size_options(max_received_bytes: int, max_sent_bytes: int | None = None) -> Options:
    """Options of either end for the largest message, the same both ways where one number is given."""
    sent = max_received_bytes if max_sent_bytes is None else max_sent_bytes
    return (
        ("grpc.max_receive_message_length", max_received_bytes),
        ("grpc.max_send_message_length", sent),
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
