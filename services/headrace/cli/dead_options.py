"""The flags that say which dead letters are meant."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import bad_input, one_line_errors

if TYPE_CHECKING:
    from headrace.dead.letter import Wanted

NumberArgument = Annotated[
    int,
    typer.Argument(metavar="N", min=1, help="The letter's number, as listed.", show_default=False),
]
NumbersArgument = Annotated[
    list[int] | None,
    typer.Argument(metavar="N…", min=1, help="The letters' numbers, as listed.", show_default=False),
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME", help="Those for this model.", show_default=False)
]
TenantOption = Annotated[
    str, typer.Option("--tenant", metavar="NAME", help="Those of this tenant.", show_default=False)
]
CodeOption = Annotated[
    str,
    typer.Option(
        "--code",
        metavar="CODE",
        help="Those with this error, such as TOO_MANY_ATTEMPTS or MALFORMED_MESSAGE.",
        show_default=False,
    ),
]
SinceOption = Annotated[
    str,
    typer.Option(
        "--since",
        metavar="DURATION",
        help="Those of the last 90s, 15m, 2h or 7d; 1h30m is one, too.",
        show_default=False,
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every letter there is.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[smhd])+")
_PART = re.compile(r"([0-9.]+)([smhd])")


def duration_s(text: str) -> float:
    """Seconds of `90s`, `2h`, `1h30m`. Ends the command where it is no duration."""
    if not _DURATION.fullmatch(text):
        raise bad_input(
            f"--since must be a number with s, m, h or d, such as 15m or 1h30m (was {text[:40]!r})"
        )
    return sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))


def build_wanted(model: str, tenant: str, code: str, since: str) -> Wanted:
    """The letters that the flags mean. Ends the command where a name is none."""
    from headrace.dead.letter import Wanted

    since_s = time.time() - duration_s(since) if since else 0.0
    with one_line_errors():
        return Wanted(model=model, tenant=tenant, code=code, since_s=since_s)
    raise AssertionError("an error ends the command above")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The letters that are meant: those of `numbers`, or else all that are `wanted`."""

    numbers: Sequence[int]
    wanted: Wanted


def build_choice(
    numbers: list[int] | None, model: str, tenant: str, code: str, since: str, *, every: bool
) -> Choice:
    """What the arguments choose. Ends the command unless it is by numbers, by filters, or all: one of these."""
    if sum((bool(numbers), bool(model or tenant or code or since), every)) != 1:
        raise bad_input(
            "which letters? Name them by number, or choose with --model, --tenant, --code, --since;"
            " --all takes every one"
        )
    return Choice(
        numbers=tuple(dict.fromkeys(numbers or ())), wanted=build_wanted(model, tenant, code, since)
    )
