"""The settings of a process: one frozen object, nested by subsystem, parsed once at the start.

`load_settings()` reads flags over environment over TOML file over defaults, and refuses to start with every fault
listed. `describe()` lists what can be set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, ValidationError

from headrace.contract.requests import Limits
from headrace.runtime.settings_console import ConsoleSettings
from headrace.runtime.settings_docs import SettingDoc, describe_model, env_name
from headrace.runtime.settings_faults import Fault, SettingsError
from headrace.runtime.settings_grpc import GrpcSettings
from headrace.runtime.settings_metrics import MetricsSettings
from headrace.runtime.settings_nats import MIB, NatsSettings, QueueSettings
from headrace.runtime.settings_processes import GatewaySettings, RouterSettings, WorkerSettings
from headrace.runtime.settings_rollout import RolloutSettings
from headrace.runtime.settings_schedule import ScheduleSettings
from headrace.runtime.settings_section import Section, UserPath
from headrace.runtime.settings_sources import Gathered, gather
from headrace.runtime.settings_store import PlacementSettings, StoreSettings
from headrace.runtime.settings_traces import TraceSettings

__all__ = [
    "ConsoleSettings",
    "Fault",
    "GatewaySettings",
    "GrpcSettings",
    "LimitSettings",
    "LogSettings",
    "MetricsSettings",
    "NatsSettings",
    "PlacementSettings",
    "QueueSettings",
    "RolloutSettings",
    "RouterSettings",
    "ScheduleSettings",
    "SettingDoc",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "TraceSettings",
    "WorkerSettings",
    "describe",
    "load_settings",
]


class LogSettings(Section):
    """What is logged, and how it looks. Prompts and outputs never are."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least weight of a line. While a process runs, `headrace log-level` changes it, and `kill -USR1"
        " PID` sets it to debug, `kill -USR2 PID` back: those of `headrace up` reach all of its processes.",
    )
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: coloured lines on a terminal, JSON elsewhere."
    )


class LimitSettings(Section):
    """What a request may ask for. Checked where it enters; a breach names the field and both numbers."""

    max_tokens_default: int = Field(
        default=256, ge=1, le=1_000_000, description="Output tokens of a request that does not say how many."
    )
    max_tokens: int = Field(
        default=32_768, ge=1, le=1_000_000, description="Most output tokens that a request may ask for."
    )
    max_prompt_bytes: int = Field(
        default=1024 * 1024,
        ge=1,
        le=64 * 1024 * 1024,
        description="Bytes of a prompt, or of all messages together: refused before the tokeniser works on it.",
    )
    max_messages: int = Field(default=1_000, ge=1, le=100_000, description="Messages of one conversation.")
    max_stop_strings: int = Field(
        default=16,
        ge=0,
        le=1_000,
        description="Stop strings of a request; each is looked for at every token.",
    )
    max_stop_bytes: int = Field(
        default=256,
        ge=1,
        le=65_536,
        description="Bytes of one stop string: so much text is held back while it may begin.",
    )
    max_texts: int = Field(
        default=256,
        ge=1,
        le=512,
        description="Texts of one request to embed: their vectors come at once, in one message from the worker.",
    )
    max_payload_bytes: int = Field(
        default=16 * MIB,
        ge=MIB,
        le=64 * MIB,
        description="Bytes of a request or a result that is too large for a message of NATS and kept in its object"
        " store. A larger request is refused, a larger result is kept without its text.",
    )

    def limits(self) -> Limits:
        """As the contract's checks take them."""
        return Limits(
            default_max_tokens=self.max_tokens_default,
            max_tokens=self.max_tokens,
            max_prompt_bytes=self.max_prompt_bytes,
            max_messages=self.max_messages,
            max_stop_strings=self.max_stop_strings,
            max_stop_bytes=self.max_stop_bytes,
            max_texts=self.max_texts,
        )


class Settings(Section):
    """Everything that can be set. Each process reads the same settings and uses its sections."""

    models: UserPath = Field(
        default_factory=lambda: Path(platformdirs.user_cache_path("headrace")) / "models",
        description="Folder of the model store.",
    )
    store: StoreSettings = Field(default_factory=StoreSettings)
    placement: PlacementSettings = Field(default_factory=PlacementSettings)
    nats: NatsSettings = Field(default_factory=NatsSettings)
    queues: QueueSettings = Field(default_factory=QueueSettings)
    router: RouterSettings = Field(default_factory=RouterSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    rollout: RolloutSettings = Field(default_factory=RolloutSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)
    grpc: GrpcSettings = Field(default_factory=GrpcSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    traces: TraceSettings = Field(default_factory=TraceSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)


def describe() -> Iterator[SettingDoc]:
    """Every setting there is, in the order of the sections."""
    return describe_model(Settings)


def load_settings(
    overrides: Mapping[str, object] | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of this process. Raises SettingsError with every fault that was found.

    `overrides` are the flags, by dotted key (`{"router.port": 7701}`); None stands for a flag not given. `config` is
    the TOML file, before HEADRACE_CONFIG and ./headrace.toml. `environ` stands in for the environment.
    """
    docs = {doc.key: doc for doc in describe()}
    found = gather(
        docs.values(),
        overrides=overrides,
        environ=os.environ if environ is None else environ,
        config=config,
    )
    nested: dict[str, Any] = {}
    for key, value in found.values.items():
        section, dot, name = key.partition(".")
        if dot:
            nested.setdefault(section, {})[name] = value
        else:
            nested[section] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        raise SettingsError([*found.faults, *_faults(error, found, docs)]) from None
    if found.faults:
        raise SettingsError(found.faults)
    return settings


def _faults(error: ValidationError, found: Gathered, docs: Mapping[str, SettingDoc]) -> Iterator[Fault]:
    """What pydantic found, one fault per key, in the words of the source. `from None` above: its text is not ours."""
    seen: set[str] = set()
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        parts = [str(part) for part in item["loc"]]
        key = next((key for key in (parts[0], ".".join(parts[:2])) if key in docs), parts[0])
        if key in seen:
            continue
        seen.add(key)
        message = item["msg"].removeprefix("Value error, ")
        doc = docs.get(key)
        if doc is None:  # Several settings of a section that do not fit together.
            names = sorted(origin for k, origin in found.origins.items() if k.startswith(f"{key}."))
            yield Fault(source=f"{key} ({', '.join(names)})", problem=message)
            continue
        shown = "the value" if doc.secret else repr(found.values.get(key))[:80]
        yield Fault(
            source=found.origins.get(key, env_name(key)),
            problem=f"{shown} is not usable: {message[:1].lower()}{message[1:]}",
            allowed=f"{doc.allowed} (default {doc.default})",
        )
