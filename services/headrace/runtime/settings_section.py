"""The shape that every section of the settings has, and the types of value they share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from headrace.contract.subjects import MAX_NAME_LENGTH


class Section(BaseModel):
    """A frozen group of settings. Unknown keys are refused, so that a typing error cannot pass for a default."""

    # hide_input_in_errors: pydantic's own text would otherwise quote passwords.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


def _split(value: object) -> object:
    """A list that came as text: `a, b`. Empty parts are dropped."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def split_pairs(value: object) -> object:
    """A mapping that came as text: `zone=a, disk=ssd`."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    for part in (part.strip() for part in value.split(",")):
        if not part:
            continue
        key, equals, text = part.partition("=")
        if not equals or not key.strip():
            raise ValueError("must be written as key=value, with a comma between pairs")
        pairs[key.strip()] = text.strip()
    return pairs


Host = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s/]+$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Address = Annotated[str, Field(max_length=300, pattern=r"^[^\s,/]+:[0-9]{1,5}$")]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_split)]
Name = Annotated[str, Field(pattern=rf"^[A-Za-z0-9_-]{{1,{MAX_NAME_LENGTH}}}$")]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Labels = Annotated[Mapping[str, str], BeforeValidator(split_pairs)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
