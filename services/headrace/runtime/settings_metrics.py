"""Settings of the metrics: where Prometheus finds them, and how many series they may be."""

from __future__ import annotations

from pydantic import Field

from headrace.runtime.settings_section import Host, Port, Section


class MetricsSettings(Section):
    """The Prometheus endpoint of each process. Export over OTLP follows the standard OTEL_ variables."""

    port: Port | None = Field(
        default=None,
        description="Port of the Prometheus endpoint, http://HOST:PORT/metrics; 0 takes any that is free, which the"
        " log and `headrace members` tell. `headrace up` counts on from it, process by process. None: there is none,"
        " as it answers whoever asks with the names of tenants and models.",
    )
    host: Host = Field(
        default="127.0.0.1",
        description="Address of the Prometheus endpoint. It knows no password: open it to a network of your own.",
    )
    advertise: str | None = Field(
        default=None,
        max_length=300,
        pattern=r"^[A-Za-z0-9._:\[\]%-]{1,255}:[0-9]{1,5}$",
        description="host:port that Prometheus reaches this process at. None: as it listens, by the machine's name"
        " where that is on all addresses.",
    )
    max_series: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Combinations of names that each metric tells apart, such as tenant and model; the first ones that"
        " come. Whatever comes then is counted under `other`, so that no caller fills memory or Prometheus with"
        " names.",
    )
