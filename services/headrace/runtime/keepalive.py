"""How soon a peer that vanished without a word is noticed: the pings of a gRPC connection."""

from __future__ import annotations

from dataclasses import dataclass

Options = tuple[tuple[str, int], ...]

MIN_PING_INTERVAL_S = 0.5
"""What a server takes from a client, whatever the client's settings are: gRPC sends no more than one ping a second.
A client that pings more often than its server takes is cut off with `too_many_pings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """Both ends ping; a peer that hangs, or is cut off, is given up after `time_s` + `timeout_s`.

    The pings are answered by gRPC's own threads: a process that computes, or whose event loop is busy, answers them;
    one that is stopped, or whose machine has gone, does not.
    """

    time_s: float = 2.0
    """Silence after which a ping is sent. gRPC sends no more than one a second."""
    timeout_s: float = 2.0
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
        return (
            *self._pings(),
            ("grpc.http2.min_ping_interval_without_data_ms", int(MIN_PING_INTERVAL_S * 1000)),
        )


KEEPALIVE = Keepalive()
"""As the settings have it by default."""

CLIENT_KEEPALIVE = Keepalive(time_s=4.0, timeout_s=6.0)
"""Between clients and gateways, by default. More patient: a client may be far away or busy, and one that is given up is
taken to have gone, with its request.
"""
