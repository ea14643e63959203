"""The one error tree."""

from __future__ import annotations

import inspect
import re

import pytest

from headrace.contract import errors
from headrace.contract.errors import (
    DeadlinePassed,
    DuplicateRequest,
    EngineFailed,
    HeadraceError,
    InvalidRequest,
    MalformedMessage,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    OutputLost,
    Overloaded,
    StartError,
    TooManyAttempts,
    Unavailable,
    UnknownMember,
    UnknownModel,
)

LINE = re.compile(r"^    (?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:\((?P<fields>[\w, ]*)\))?", re.MULTILINE)
CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, HeadraceError) and value.__module__ == errors.__name__
]


def printed_tree() -> list[tuple[int, str, str]]:
    """(depth, class, fields) of each line of the tree in the docstring."""
    return [
        (len(found["indent"]) // 4, found["name"], found["fields"] or "")
        for found in LINE.finditer(errors.__doc__ or "")
    ]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Each class with its parent's place and the arguments that it takes, and no class more."""
    printed = printed_tree()
    assert [name for _, name, _ in printed] == [cls.__name__ for cls in CLASSES]
    for (depth, name, fields), cls in zip(printed, CLASSES, strict=True):
        assert depth == len(cls.__mro__) - len(HeadraceError.__mro__), name
        if cls is not HeadraceError:
            assert fields.split(", ") == [*inspect.signature(cls).parameters], name


def test_a_line_stands_below_its_parent() -> None:
    """The nearest line above it that is one level up."""
    above: dict[int, str] = {}
    for (depth, name, _), cls in zip(printed_tree(), CLASSES, strict=True):
        above[depth] = name
        assert depth == 0 or cls.mro()[1].__name__ == above[depth - 1]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InvalidRequest("stop[0]", "is empty"), "INVALID_REQUEST", "stop[0]: is empty"),
        (
            UnknownModel("gpt", ["b", "a"]),
            "UNKNOWN_MODEL",
            "model: unknown model 'gpt'; available: a, b",
        ),
        (UnknownModel("gpt", []), "UNKNOWN_MODEL", "model: unknown model 'gpt'; available: none"),
        (
            DeadlinePassed(1.5),
            "DEADLINE_PASSED",
            "deadline: has passed before the request was done, by 1.500 s",
        ),
        (
            DuplicateRequest("ID"),
            "DUPLICATE_REQUEST",
            "request_id: ID is already in use by another request; choose a new id",
        ),
        (Overloaded("the queue is full", 2.25), "OVERLOADED", "the queue is full; retry in 2.2 s"),
        (NotFound("result", "ID"), "NOT_FOUND", "no result 'ID'"),
        (
            UnknownMember("x", ["router r", "worker w"]),
            "UNKNOWN_MEMBER",
            "no member 'x'; there are: router r, worker w",
        ),
        (UnknownMember("x", []), "UNKNOWN_MEMBER", "no member 'x'; there are: none"),
        (NotAuthenticated("no token"), "UNAUTHENTICATED", "no token"),
        (NotPermitted("from afar"), "PERMISSION_DENIED", "from afar"),
        (
            OutputLost("ID", 4),
            "OUTPUT_LOST",
            "the tokens of ID from index 4 on were lost; ask again with a new id",
        ),
        (Unavailable("router", "does not answer"), "UNAVAILABLE", "router: does not answer"),
        (EngineFailed("out of memory"), "ENGINE_FAILED", "the engine failed: out of memory"),
        (TooManyAttempts(5, "no memory"), "TOO_MANY_ATTEMPTS", "given up after 5 attempts: no memory"),
        (MalformedMessage("body", "is not JSON"), "MALFORMED_MESSAGE", "body: is not JSON"),
        (
            StartError("a port is in use", "Choose another."),
            "START_ERROR",
            "a port is in use. Choose another.",
        ),
        (StartError("a port is in use"), "START_ERROR", "a port is in use"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, HeadraceError) else "",
)
def test_codes_and_texts(error: HeadraceError, code: str, text: str) -> None:
    """A code is never reworded: clients branch on it. A text is one line."""
    assert error.code == code
    assert str(error) == text


def test_every_class_has_a_code_of_its_own() -> None:
    """So that a code names a class."""
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[A-Z_]+", code) for code in codes)


def test_the_arguments_are_fields() -> None:
    """Shells and tests read fields, not texts."""
    for cls in CLASSES[1:]:
        parameters = inspect.signature(cls).parameters
        values = [
            1.0 if "float" in str(p.annotation) else 1 if "int" in str(p.annotation) else "x"
            for p in parameters.values()
        ]
        error = cls(*values)
        for name, value in zip(parameters, values, strict=True):
            assert getattr(error, name) == (tuple("x") if name == "known" else value)


@pytest.mark.parametrize("error", [UnknownModel("x" * 5000, ["m"]), NotFound("model", "x\ny" * 5000)])
def test_what_a_client_named_is_told_shortly_and_on_one_line(error: HeadraceError) -> None:
    """A name can be as long as a message, and hold a line's end."""
    assert len(str(error)) < 300
    assert "\n" not in str(error)
