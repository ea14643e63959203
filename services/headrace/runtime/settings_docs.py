"""What settings there are: their keys, environment variables, defaults, and what each may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from headrace.runtime.settings_section import Section

ENV_PREFIX = "HEADRACE_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDoc:
    """One setting, for `--help`, for the documentation and for messages about faults.

    `key` is its place in the TOML file (`router.port`), `env` its environment variable (`HEADRACE_ROUTER_PORT`).
    """

    key: str
    env: str
    default: str
    allowed: str
    description: str
    secret: bool


def env_name(key: str) -> str:
    """`router.ack_wait_s` → `HEADRACE_ROUTER_ACK_WAIT_S`."""
    return ENV_PREFIX + key.replace(".", "_").upper()


def describe_model(model: type[BaseModel], prefix: str = "") -> Iterator[SettingDoc]:
    """Every setting of `model` and its sections, in the order they are declared."""
    properties: dict[str, Any] = model.model_json_schema(mode="validation").get("properties", {})
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield from describe_model(section, f"{key}.")
            continue
        schema = properties[name]
        yield SettingDoc(
            key=key,
            env=env_name(key),
            default=schema.get("shown_default") or _default(field),
            allowed=_allowed(schema),
            description=field.description or "",
            secret=not field.repr or "SecretStr" in str(field.annotation),
        )


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    if isinstance(value, (tuple, dict)):
        return ",".join(value) if value else "empty"
    if isinstance(value, Path):
        home = Path.home()
        return f"~/{value.relative_to(home)}" if value.is_relative_to(home) else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


_KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "array": "list",
    "object": "key=value,…",
}


def _allowed(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "pattern" in schema:
        return f"text like {schema['pattern']}"
    kind = (
        schema.get("format")
        if schema.get("format") in ("path",)
        else _KINDS.get(schema.get("type", ""), "text")
    )
    return f"{kind}{_range(schema)}"


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if above is not None:
        return f" above {above:g}" + (f", up to {high:g}" if high is not None else "")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" from {low}" if low is not None else ""
