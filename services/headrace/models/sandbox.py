"""A jinja2 environment in which a chat template can neither reach anything nor run away.

jinja2's immutable sandbox keeps a template from Python's internals and from changing its arguments; it bounds neither
time nor memory. Here each rendering has a `Budget`: a loop pays for its items, a call for its result, an expression for
its text. What could make much out of little at once (repetition, powers, padding, string formatting) is not there. So
no template runs longer or larger than its budget, without threads or timers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import loopcontrols
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

BUDGET_VARIABLE = "headrace budget"  # no identifier: a template can neither name it nor set it
MAX_RANGE = 10_000
_MAX_INTEGER = 2**63
_MAX_INDENT = 8

# What things cost, in characters of output that take as long.
_STEP = 5
_CALL = 20

# fmt: off
_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length",
    "list", "lower", "max", "min", "reject", "rejectattr", "reverse", "round", "safe", "select", "selectattr", "sort",
    "string", "title", "trim", "unique", "upper",
)
_STRING_METHODS = (
    "capitalize", "count", "endswith", "find", "isdigit", "isspace", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip",
    "title", "upper",
)
# fmt: on
_FORBIDDEN_NODES = (
    nodes.Import,
    nodes.FromImport,
    nodes.Include,
    nodes.Extends,
    nodes.CallBlock,
    nodes.FilterBlock,
    nodes.ScopedEvalContextModifier,
)


class BudgetSpent(TemplateError):
    """A rendering that took more than its budget."""


class Refused(TemplateError):
    """What a template says with `raise_exception(…)` about the messages."""


class Budget:
    """What one rendering may still spend, in characters. Written by the environment alone."""

    def __init__(self, amount: int) -> None:
        self.left = amount

    def charge(self, amount: int) -> None:
        """Raises BudgetSpent where less than `amount` is left."""
        self.left -= amount
        if self.left < 0:
            raise BudgetSpent("it takes too long or its output is too large")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Compiles templates whose renderings keep to the Budget that they are given as BUDGET_VARIABLE."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            extensions=[loopcontrols],
            finalize=_charged_output,
        )
        self.filters = {name: self.filters[name] for name in _FILTERS}
        self.filters |= {"join": _join, "map": _map, "replace": _replace, "tojson": _to_json}
        self.filters |= {"_items": _items, "_concatenation": _concatenation}
        namespace = self.globals["namespace"]
        self.globals = {"namespace": namespace, "dict": dict, "range": _range, "raise_exception": _refuse}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(_FORBIDDEN_NODES):
            raise SecurityError(f"'{type(node).__name__}' in line {node.lineno} is not allowed")
        bounded: nodes.Template = _Bounding().visit(tree)
        return bounded

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _STRING_METHODS
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """str.format stays out: a width in its pattern could make a gigabyte of one character."""
        return

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as in jinja2
        budget = _budget(__context)
        budget.charge(_CALL)
        method, text = getattr(__obj, "__name__", ""), getattr(__obj, "__self__", None)
        if method == "replace" and isinstance(text, str):
            return _replace(__context, text, *args, **kwargs)
        result = super().call(__context, __obj, *args, **kwargs)
        budget.charge(_size(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = all(isinstance(v, int | float) and abs(v) < _MAX_INTEGER for v in (left, right))
        if operator == "**" or (operator in "*%" and not numbers):
            raise SecurityError(f"'{operator}' is for small numbers only")
        if not numbers:
            _budget(context).charge(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)


class _Bounding(NodeTransformer):
    """Puts what the Budget has to see between a loop and its items, and around `~`."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.recursive:
            raise SecurityError(f"a recursive loop in line {node.lineno} is not allowed")
        literal = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = nodes.Filter(
            node.iter, "_items", [nodes.Const(literal)], [], None, None, lineno=node.lineno
        )
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "_concatenation", [], [], None, None, lineno=node.lineno)


def _budget(context: Context) -> Budget:
    budget: Budget = context.parent[BUDGET_VARIABLE]
    return budget


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict) else 1


def _range(*arguments: int) -> range:
    if len(numbers := range(*arguments)) > MAX_RANGE:
        raise SecurityError(f"a range of more than {MAX_RANGE} is not allowed")
    return numbers


def _refuse(message: object = "") -> NoReturn:
    raise Refused(str(message))


@pass_context
def _charged_output(context: Context, value: Any) -> Any:
    text = str(value)
    _budget(context).charge(_STEP + len(text))
    return text


@pass_context
def _items(context: Context, iterable: Iterable[Any], literal: int) -> list[Any]:
    """The items of a loop, whose body holds `literal` characters of template text."""
    budget = _budget(context)
    items = list(itertools.islice(iterable, budget.left + 1))
    budget.charge(len(items) * (_STEP + literal))
    return items


@pass_context
def _concatenation(context: Context, parts: list[Any]) -> str:
    texts = ["" if isinstance(part, Undefined) else str(part) for part in parts]
    _budget(context).charge(sum(map(len, texts)))
    return "".join(texts)


@pass_context
def _join(context: Context, values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    pick = _attribute(context, attribute)
    texts = [str(pick(value)) for value in values]
    _budget(context).charge(sum(map(len, texts)) + len(separator) * len(texts))
    return str(separator).join(texts)


@pass_context
def _map(context: Context, values: Iterable[Any], *, attribute: str) -> list[Any]:
    return [_attribute(context, attribute)(value) for value in values]


def _attribute(context: Context, attribute: str | None) -> Callable[[Any], Any]:
    if attribute is None:
        return lambda value: value
    return lambda value: context.environment.getitem(value, attribute)


@pass_context
def _replace(context: Context, text: str, old: str, new: str, count: int = -1) -> str:
    text, old, new = str(text), str(old), str(new)
    _budget(context).charge(len(text) + text.count(old) * len(new))
    return text.replace(old, new, -1 if count is None else count)


@pass_context
def _to_json(context: Context, value: Any, indent: int | None = None) -> str:
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise SecurityError(f"tojson: an indent of more than {_MAX_INDENT} is not allowed")
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    _budget(context).charge(len(text))
    return text
