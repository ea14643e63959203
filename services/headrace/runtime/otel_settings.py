"""What the standard OTEL_ variables ask for, for traces and for metrics alike."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from headrace.contract.errors import StartError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

EXPORTERS = ("otlp", "console", "none")
_DEFAULT_ENDPOINT = "http://localhost:4317"


def setting(name: str) -> str:
    """A setting's value; the convention counts an empty one as unset."""
    return os.environ.get(name, "").strip()


def exporters_asked(signal: str, *, instead: str = "") -> tuple[str, ...]:
    """Which of `otlp` and `console` the environment asks for; `signal` is `TRACES` or `METRICS`.

    Raises StartError for others, and for another protocol than gRPC. `instead` is the remedy for others.
    """
    if setting("OTEL_SDK_DISABLED").lower() == "true":
        return ()
    listed = setting(f"OTEL_{signal}_EXPORTER")
    if listed:
        names = tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
        for name in names:
            if name not in EXPORTERS:
                raise StartError(
                    f"OTEL_{signal}_EXPORTER={name} is not supported",
                    f"Use one of {', '.join(EXPORTERS)}{instead}",
                )
        names = tuple(name for name in names if name != "none")
    else:
        asked = setting(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or setting("OTEL_EXPORTER_OTLP_ENDPOINT")
        names = ("otlp",) if asked else ()
    if "otlp" in names:
        _require_grpc(signal)
    return names


def _require_grpc(signal: str) -> None:
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = setting(name)
        if protocol == "grpc":
            return  # the more specific of the two decides
        if protocol:
            raise StartError(
                f"{name}={protocol} is not supported: Headrace exports over gRPC only",
                f"Set {name}=grpc and name the collector's gRPC port, usually 4317",
            )


def endpoint(signal: str) -> str:
    """Where OTLP goes, for the log."""
    return (
        setting(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        or setting("OTEL_EXPORTER_OTLP_ENDPOINT")
        or _DEFAULT_ENDPOINT
    )


def resource(process: str, instance: str) -> Resource:
    """What exports say of this process. Pulls in the SDK."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = {
        "service.name": f"headrace-{process}",
        "service.instance.id": instance,
        "service.version": version(),
    }
    # What the operator says by OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES wins over what we say.
    said = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in ours.items() if name not in said})


def version() -> str:
    """Of Headrace."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("headrace")
    except PackageNotFoundError:
        return "0"
