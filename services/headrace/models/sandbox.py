"""A jinja2 environment in which a chat template can neither reach anything nor run away.

jinja2's immutable sandbox keeps a template from Python's internals and from changing its arguments; it bounds neither
time nor memory. Here each rendering has a `Budget`: a loop pays for its items and their statements, a call or filter
for what it looks at and makes, an expression for its text. What could make much out of little at once (repetition,
powers, padding, string formatting) is not there. So no template runs longer or larger than its budget, without threads
or timers.
"""

from __future__ import annotations

from typing import Any, NoReturn

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from headrace.models.template_budget import budget_of
from headrace.models.template_filters import replace_text, template_filters

MAX_RANGE = 10_000
_MAX_INTEGER = 2**63

# What things cost, in characters of output that take as long.
_STEP = 5
_CALL = 20

# fmt: off
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
    nodes.Block,
    nodes.CallBlock,
    nodes.FilterBlock,
    nodes.ScopedEvalContextModifier,
)


class Refused(TemplateError):
    """What a template says with `raise_exception(…)` about the messages."""


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
        self.filters = dict(template_filters())
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
        budget = budget_of(__context)
        budget.charge(_CALL)
        method, owner = getattr(__obj, "__name__", ""), getattr(__obj, "__self__", None)
        if method == "replace" and isinstance(owner, str):
            return replace_text(__context, owner, *args, **kwargs)
        if isinstance(owner, str | list | tuple):
            budget.charge_reading(owner, *args)
        result = super().call(__context, __obj, *args, **kwargs)
        budget.charge_making(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = all(isinstance(v, int | float) and abs(v) < _MAX_INTEGER for v in (left, right))
        if operator == "**" or (operator in "*%" and not numbers):
            raise SecurityError(f"'{operator}' is for small numbers only")
        result = super().call_binop(context, operator, left, right)
        if not numbers:
            budget_of(context).charge_making(result)
        return result


class _Bounding(NodeTransformer):
    """Puts what the Budget has to see into loops, macros, comparisons, slices, literals, and around `~`."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        if node.recursive:
            raise SecurityError(f"a recursive loop in line {node.lineno} is not allowed")
        cost = _cost(node)
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_items", cost)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        cost = _cost(node)
        self.generic_visit(node)
        pay = _filtered(nodes.Const("", lineno=node.lineno), "_paid", cost)
        node.body.insert(0, nodes.Output([pay], lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_concatenation")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "_read")
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, "_read")
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.args:  # 'in', 'eq' and the like; others look at no more than the kind of a value
            node.node = _filtered(node.node, "_read")
            node.args = [_filtered(argument, "_read") for argument in node.args]
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_made") if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_made")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_made")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_made") if node.ctx == "load" else node


def _cost(node: nodes.Node) -> int:
    """Of running the statements in `node` once."""
    literal = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
    return literal + _STEP * sum(1 for _ in node.find_all((nodes.Stmt, nodes.Expr)))


def _filtered(node: nodes.Node, name: str, *arguments: int) -> nodes.Expr:
    """`node | name`. A constant costs nothing to speak of, but for what follows it."""
    if isinstance(node, nodes.Const) and not arguments:
        return node
    constants: list[nodes.Expr] = [nodes.Const(argument, lineno=node.lineno) for argument in arguments]
    return nodes.Filter(node, name, constants, [], None, None, lineno=node.lineno)


def _range(*arguments: int) -> range:
    if len(numbers := range(*arguments)) > MAX_RANGE:
        raise SecurityError(f"a range of more than {MAX_RANGE} is not allowed")
    return numbers


def _refuse(message: object = "") -> NoReturn:
    raise Refused(str(message))


@pass_context
def _charged_output(context: Context, value: Any) -> Any:
    budget = budget_of(context)
    budget.charge(_STEP)
    return budget.text(value)
