"""What a rendering of a chat template may still cost, and what values cost: in characters that take as long."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.runtime import Context, Undefined
from jinja2.utils import Namespace

BUDGET_VARIABLE = "headrace budget"  # no identifier: a template can neither name it nor set it
_ITEM = 16
"""Of a list, visited or made."""
_SCANNED = 8
"""Characters that are looked through in the time in which one is written."""
_PLAIN = (str, int, float, bool, type(None), Undefined)


class BudgetSpent(TemplateError):
    """A rendering that took more than its budget."""


class Budget:
    """What one rendering may still spend. Written by the environment alone."""

    def __init__(self, amount: int) -> None:
        self.left = amount

    def charge(self, amount: int) -> None:
        """Raises BudgetSpent where less than `amount` is left."""
        self.left -= amount
        if self.left < 0:
            raise BudgetSpent("it takes too long or its output is too large")

    def charge_reading(self, *values: Any) -> None:
        """For looking through `values`: comparing, searching, sorting."""
        for value in values:
            self.charge(self._size(value, _SCANNED))

    def charge_making(self, value: Any) -> None:
        """For a value that is new."""
        self.charge(self._size(value, 1))

    def held(self, iterable: Iterable[Any]) -> list[Any]:
        """The items, which are charged for, and not more of them than are left."""
        items = list(itertools.islice(iterable, self.left // _ITEM + 1))
        self.charge(_ITEM * len(items))
        return items

    def text(self, value: Any) -> str:
        """`value` as it is written, charged for. A list may hold another many times, so it is measured first."""
        if not isinstance(value, _PLAIN):
            self.charge_making(value)
        text = str(value)
        self.charge(len(text))
        return text

    def _size(self, value: Any, scanned: int) -> int:
        """Of all that there is in `value`, as often as it is in it. Not more of it is visited than is left."""
        size, waiting = 0, [value]
        while waiting:
            value = waiting.pop()
            size += 1 + (len(value) // scanned if isinstance(value, str) else 0)
            parts = _parts(value)
            if size + _ITEM * (len(parts) + len(waiting)) > self.left:
                return self.left + 1
            size += (_ITEM - 1) * len(parts)
            waiting.extend(parts)
        return size


def budget_of(context: Context) -> Budget:
    budget: Budget = context.parent[BUDGET_VARIABLE]
    return budget


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple | range):
        return value
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    if isinstance(value, Namespace):
        attributes: dict[str, Any] = object.__getattribute__(value, "_Namespace__attrs")
        return tuple(attributes.values())
    return ()
