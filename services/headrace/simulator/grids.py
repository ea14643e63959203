"""The measured costs that runs are made with: those that come along, by name, or a file."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from headrace.contract.cost_document import read_cost
from headrace.contract.costs import ModelCost

NAMES = ("small", "larger", "smollm2")


def load_grid(name: str) -> ModelCost:
    """The costs of that name, or of that file. Raises ValueError."""
    text = _text(name)
    try:
        return read_cost(json.loads(text))
    except ValueError as error:
        raise ValueError(f"{name}: these are no measured costs: {error}") from error


def _text(name: str) -> str:
    if name in NAMES:
        return resources.files("headrace.simulator").joinpath("grids", f"{name}.json").read_text()
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{name!r} is none of {', '.join(NAMES)}, and no file to be read ({error})"
        ) from error
