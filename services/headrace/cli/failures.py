"""How an error ends a command: one line on stderr, and an exit code.

0  done            1  it failed; the line says what to do
2  bad input       130  interrupted (Ctrl-C)
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

import typer

FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130


def say_error(line: str) -> None:
    """One line on stderr, red on a terminal, in the form that the processes use for theirs."""
    typer.secho(f"headrace: {line}", fg="red" if sys.stderr.isatty() else None, err=True)


def bad_input(line: str) -> typer.Exit:
    """To be raised: the person's input cannot be used."""
    say_error(line)
    return typer.Exit(BAD_INPUT)


def notes_of(error: BaseException) -> list[str]:
    """What a command has added to an error: lines that say what can be done."""
    return list(getattr(error, "__notes__", ()))


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors of the tree into a line and an exit code. Any other exception passes: it is our bug."""
    from headrace.contract.errors import DeadlinePassed, HeadraceError, InvalidRequest
    from headrace.runtime.error_groups import expected_errors
    from headrace.runtime.settings_faults import SettingsError

    try:
        yield
    except (HeadraceError, ExceptionGroup) as error:
        expected = expected_errors(error)
        if not expected:
            raise
        for line in dict.fromkeys(line for one in expected for line in (str(one), *notes_of(one))):
            say_error(line)
        input_is_bad = any(
            isinstance(one, (InvalidRequest, SettingsError)) and not isinstance(one, DeadlinePassed)
            for one in expected
        )
        raise typer.Exit(BAD_INPUT if input_is_bad else FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
