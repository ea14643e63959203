"""Settings of traces: what gateways remember of recent requests, and whether content is captured."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from headrace.runtime.settings_nats import MIB
from headrace.runtime.settings_section import Name, Section


def _lines(value: object) -> object:
    """A list that came as text, a pattern a line: a comma may be part of one."""
    if isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    return value


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return value


Tenants = Annotated[tuple[Name, ...], BeforeValidator(_split)]
Patterns = Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], BeforeValidator(_lines)]


class TraceSettings(Section):
    """What is remembered of recent requests for `headrace trace` and the console; exporters are set by OTEL_*."""

    recent: bool = Field(
        default=True,
        description="Whether processes tell the gateways of the spans of their requests. False: `headrace trace`"
        " knows nothing, and without an exporter no span is made at all.",
    )
    recent_max_bytes: int = Field(
        default=32 * MIB,
        ge=MIB,
        le=16 * 1024 * MIB,
        description="Bytes of spans that a gateway remembers, some 2,000 a MiB. When full, the oldest request is"
        " forgotten.",
    )
    recent_max_spans: int = Field(
        default=256,
        ge=16,
        le=100_000,
        description="Spans that a gateway remembers of one request; further ones are counted, not kept.",
    )
    pending_spans: int = Field(
        default=4096,
        ge=16,
        le=1_000_000,
        description="Spans that wait in a process to be told, as where the broker is away. When full, the oldest is"
        " dropped; `headrace trace` says how many were.",
    )
    capture_tenants: Tenants = Field(
        default=(),
        description="Tenants whose prompts and outputs are written into the traces of their requests, with commas"
        " between. Each start says so. None: nobody's.",
    )
    capture_redact: Patterns = Field(
        default=(),
        description="Regular expressions, one a line; what they match in captured content is replaced by"
        " (redacted).",
    )
    capture_max_chars: int = Field(
        default=2_000,
        ge=1,
        le=1_000_000,
        description="Characters of a prompt, and of an output, that are captured; the rest is left out. Redaction"
        " comes first.",
    )
