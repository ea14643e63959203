"""Settings of the gRPC connections between processes."""

from __future__ import annotations

from pydantic import Field

from headrace.runtime.keepalive import KEEPALIVE, Keepalive
from headrace.runtime.settings_section import Section


class GrpcSettings(Section):
    """The connections between clients, gateways, routers and workers."""

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

    @property
    def keepalive(self) -> Keepalive:
        """As channels and servers take it."""
        return Keepalive(time_s=self.keepalive_time_s, timeout_s=self.keepalive_timeout_s)
