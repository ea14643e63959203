"""The filters that a chat template has, each of which pays for what it looks at and for what it makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined

from headrace.models.template_budget import budget_of

Filter = Callable[..., Any]

_CALL = 20
_MAX_INDENT = 8
_MAX_DIGITS = 12
# fmt: off
_PLAIN = (
    "abs", "capitalize", "dictsort", "float", "int", "items", "list", "lower", "max", "min", "reverse", "safe", "sort",
    "string", "title", "trim", "unique", "upper",
)
# fmt: on
_AT_ONCE = ("count", "d", "default", "first", "last", "length")
"""They look at one item, or at none; templates ask for the number of messages in each of their loops."""
_PICKING = ("reject", "rejectattr", "select", "selectattr")


def template_filters() -> Mapping[str, Filter]:
    """Name → filter. What could make much out of little at once is not there."""
    return {
        **{name: _paid(FILTERS[name]) for name in _PLAIN},
        **{name: _paid(FILTERS[name], at_once=True) for name in _AT_ONCE},
        **{name: _paid(FILTERS[name], each=True) for name in _PICKING},
        "join": _join,
        "map": _map,
        "replace": replace_text,
        "round": _paid(_round),
        "tojson": _to_json,
        # Put into a template by the environment; no template can name them.
        "_items": _items,
        "_concatenation": _concatenation,
        "_read": _read,
        "_made": _made,
        "_paid": _pay,
    }


def _paid(function: Filter, *, each: bool = False, at_once: bool = False) -> Filter:
    """`each`: every item is compared with all that the arguments hold. `at_once`: it takes as long for any value."""
    passed = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @pass_context
    def paid(context: Context, value: Any = None, *arguments: Any, **named: Any) -> Any:
        budget = budget_of(context)
        budget.charge(_CALL)
        if isinstance(value, Iterator):
            value = budget.held(value)
        if not at_once:
            budget.charge_reading(value)
        for _ in range(len(value) if each and isinstance(value, list | tuple | range | str) else 1):
            budget.charge_reading(*arguments, *named.values())
        given = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        first = () if passed is None else (given[passed],)
        result = function(*first, value, *arguments, **named)
        if isinstance(result, Iterator):
            return budget.held(result)
        if not at_once:
            budget.charge_making(result)
        return result

    return paid


@pass_context
def _items(context: Context, iterable: Iterable[Any], cost: int) -> list[Any]:
    """The items of a loop, whose body costs `cost` each time."""
    budget = budget_of(context)
    items = budget.held(iterable)
    budget.charge(len(items) * cost)
    return items


@pass_context
def _pay(context: Context, value: Any, cost: int) -> Any:
    budget_of(context).charge(cost)
    return value


@pass_context
def _read(context: Context, value: Any) -> Any:
    budget_of(context).charge_reading(value)
    return value


@pass_context
def _made(context: Context, value: Any) -> Any:
    budget_of(context).charge_making(value)
    return value


@pass_context
def _concatenation(context: Context, parts: list[Any]) -> str:
    budget = budget_of(context)
    return "".join(["" if isinstance(part, Undefined) else budget.text(part) for part in parts])


@pass_context
def _join(context: Context, values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    budget, pick = budget_of(context), _attribute(context, attribute)
    texts = [budget.text(pick(value)) for value in budget.held(values)]
    budget.charge(len(separator) * len(texts))
    return str(separator).join(texts)


@pass_context
def _map(context: Context, values: Iterable[Any], *, attribute: str) -> list[Any]:
    return [_attribute(context, attribute)(value) for value in budget_of(context).held(values)]


def _attribute(context: Context, attribute: str | None) -> Callable[[Any], Any]:
    if attribute is None:
        return lambda value: value
    return lambda value: context.environment.getitem(value, attribute)


@pass_context
def replace_text(context: Context, text: str, old: str, new: str, count: int = -1) -> str:
    budget = budget_of(context)
    text, old, new = budget.text(text), str(old), str(new)
    budget.charge(text.count(old) * len(new))
    return text.replace(old, new, -1 if count is None else count)


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if abs(precision) > _MAX_DIGITS:
        raise SecurityError(f"round: more than {_MAX_DIGITS} digits are not allowed")
    rounded: float = FILTERS["round"](value, precision, method)
    return rounded


@pass_context
def _to_json(context: Context, value: Any, indent: int | None = None) -> str:
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise SecurityError(f"tojson: an indent of more than {_MAX_INDENT} is not allowed")
    budget = budget_of(context)
    budget.charge_making(value)
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    budget.charge(len(text))
    return text
