"""Settings of the gRPC connections between processes."""

from __future__ import annotations

from pydantic import Field

from headrace.runtime.keepalive import CLIENT_KEEPALIVE, KEEPALIVE, Keepalive
from headrace.runtime.settings_section import Section


class GrpcSettings(Section):
    """The connections between gateways, routers and workers, and those of clients."""

    keepalive_time_s: float = Field(
        default=KEEPALIVE.time_s,
        ge=1,
        le=3600,
        description="Seconds of silence after which either end of a connection pings the other. A process that hangs"
        " is noticed, and its work goes on elsewhere, after keepalive_time_s + keepalive_timeout_s.",
    )
    keepalive_timeout_s: float = Field(
        default=KEEPALIVE.timeout_s,
        ge=0.1,
        le=3600,
        description="Seconds that the answer to a ping may take before the connection is given up: longer than any"
        " pause of the network that is not to count as a loss.",
    )

    client_keepalive_time_s: float = Field(
        default=CLIENT_KEEPALIVE.time_s,
        ge=1,
        le=3600,
        description="The same between clients and gateways: a client that is given up is taken to have gone, and its"
        " request ends unless it is to be kept.",
    )
    client_keepalive_timeout_s: float = Field(
        default=CLIENT_KEEPALIVE.timeout_s,
        ge=0.1,
        le=3600,
        description="The same between clients and gateways: longer than a client's network may be away, or a busy"
        " machine not get to answering.",
    )

    @property
    def client_keepalive(self) -> Keepalive:
        """Of a gateway's door, and of clients."""
        return Keepalive(time_s=self.client_keepalive_time_s, timeout_s=self.client_keepalive_timeout_s)

    @property
    def keepalive(self) -> Keepalive:
        """As channels and servers take it."""
        return Keepalive(time_s=self.keepalive_time_s, timeout_s=self.keepalive_timeout_s)
