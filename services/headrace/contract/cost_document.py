"""A model's cost as JSON that people read: one row of seconds for each batch size.

{"step":    {"batches": [1, 4], "contexts": [16, 256], "seconds": [[0.010, 0.011], [0.015, 0.019]]},
 "prefill": {…},
 "load_s":  0.4}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.contract.costs import CostGrid, ModelCost, check_cost

_DIGITS = 4
"""Significant ones of a value that is written: nobody measures better, and people read it."""


def cost_document(cost: ModelCost) -> dict[str, object]:
    """`cost` for `json.dumps`, with seconds rounded to four significant digits."""
    return {"step": _grid(cost.step), "prefill": _grid(cost.prefill), "load_s": _rounded(cost.load_s)}


def read_cost(document: object) -> ModelCost:
    """The cost that a document tells of; what else stands in it is ignored. Raises ValueError with what is wrong."""
    try:
        told = _mapping(document)
        cost = ModelCost(
            step=_read_grid(told["step"]),
            prefill=_read_grid(told["prefill"]),
            load_s=float(told.get("load_s", 0.0)),
        )
    except KeyError as error:
        raise ValueError(f"it has no {error}") from error
    except (TypeError, OverflowError) as error:
        raise ValueError(f"it is no cost: {error}") from error
    check_cost(cost)
    return cost


def _grid(grid: CostGrid) -> dict[str, object]:
    width = len(grid.contexts)
    return {
        "batches": list(grid.batches),
        "contexts": list(grid.contexts),
        "seconds": [
            [_rounded(cell) for cell in grid.seconds[at : at + width]]
            for at in range(0, len(grid.seconds), width)
        ],
    }


def _read_grid(document: object) -> CostGrid:
    told = _mapping(document)
    contexts = tuple(int(context) for context in told["contexts"])
    rows = [tuple(float(cell) for cell in row) for row in told["seconds"]]
    if any(len(row) != len(contexts) for row in rows):
        raise ValueError("a row of seconds has one value for each context")
    return CostGrid(
        batches=tuple(int(batch) for batch in told["batches"]),
        contexts=contexts,
        seconds=tuple(cell for row in rows for cell in row),
    )


def _mapping(document: object) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise ValueError("it is no JSON object")
    return document


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
