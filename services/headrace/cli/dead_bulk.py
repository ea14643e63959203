"""Doing something to many dead letters: count them, ask, go through them with a progress bar."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from headrace.cli.dead_call import call_letters
from headrace.cli.dead_options import Choice
from headrace.cli.dead_view import counted, json_line
from headrace.cli.failures import FAILED, say_error
from headrace.contract.errors import HeadraceError, NotFound, Unavailable
from headrace.dead.letter import Letter, Wanted
from headrace.dead.letters import DeadLetters
from headrace.runtime.settings import Settings

_MANY = 20
"""From so many letters on there is a bar: fewer are done before it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What is done to each letter."""

    verb: str
    done: str
    act: Callable[[DeadLetters, Letter], Awaitable[tuple[str, dict[str, Any]]]]
    """Gives what to say of it as text, "" for nothing, and as fields of JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """The letters that a filter means at one moment. Those that come later are not touched."""

    count: int
    first: int
    last: int


def carry_out(settings: Settings, choice: Choice, deed: Deed, *, yes: bool, as_json: bool) -> None:
    """Does it to the letters that are named, or to those that a filter means once a person has agreed.

    Ends the command with 1 where one of them could not be done.
    """
    if choice.numbers:
        report = _Report(deed.done, len(choice.numbers), as_json=as_json)
        _run(settings, lambda letters: _each(letters, choice.numbers, deed, report), report)
        return
    match = call_letters(settings, lambda letters: _count(letters, choice.wanted))
    if not match.count:
        typer.echo("no letter matches", err=True)
        return
    # Asked between two connections: one that nobody listens on while a person thinks would be cut.
    if not yes and not typer.confirm(f"{deed.verb} {counted(match.count)}?", err=True):
        typer.echo("nothing was done", err=True)
        raise typer.Exit(FAILED)
    report = _Report(deed.done, match.count, as_json=as_json)
    _run(settings, lambda letters: _all(letters, choice.wanted, match, deed, report), report)


async def _count(letters: DeadLetters, wanted: Wanted) -> _Match:
    number, first, last = 0, letters.last, 0
    with Console(stderr=True).status("counting …"):
        async for page in letters.newest_first(wanted):
            number, first, last = number + len(page), page[-1].number, max(last, page[0].number)
    return _Match(count=number, first=first, last=last)


async def _all(letters: DeadLetters, wanted: Wanted, match: _Match, deed: Deed, report: _Report) -> None:
    """The oldest first, a page at once: the broker answers many questions in the time of one."""
    async for page in letters.oldest_first(wanted, first=match.first, last=match.last):
        async with asyncio.TaskGroup() as tasks:
            for letter in page:
                tasks.create_task(report.take(letter.number, deed.act(letters, letter)))


async def _each(letters: DeadLetters, numbers: Sequence[int], deed: Deed, report: _Report) -> None:
    """In the order that they were named in."""

    async def one(number: int) -> tuple[str, dict[str, Any]]:
        return await deed.act(letters, await letters.get(number))

    for number in numbers:
        await report.take(number, one(number))


def _run(settings: Settings, go: Callable[[DeadLetters], Awaitable[None]], report: _Report) -> None:
    try:
        with report.bar:
            call_letters(settings, go)
    finally:
        typer.echo(report.sum, err=True)
    if report.failed:
        raise typer.Exit(FAILED)


class _Report:
    """What was done so far. Written by `take` alone."""

    def __init__(self, done: str, total: int, *, as_json: bool) -> None:
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
            disable=total < _MANY or not console.is_terminal,
        )
        self._task = self.bar.add_task(done, total=total)
        self._done = done
        self._as_json = as_json
        self._count = 0
        self.failed = 0

    async def take(self, number: int, doing: Awaitable[tuple[str, dict[str, Any]]]) -> None:
        """Awaits it and says how it went. Raises Unavailable: then the others would fail as well."""
        try:
            line, fields = await doing
        except Unavailable:
            raise
        except HeadraceError as error:
            state = "missing" if isinstance(error, NotFound) else "refused"
            self._print("", {"letter": number, "state": state, "reason": str(error)})
            self._say_error(str(error))
            self.failed += 1
        else:
            self._print(line, {"letter": number, "state": self._done, **fields})
            self._count += 1
        self.bar.advance(self._task)

    def _print(self, line: str, fields: dict[str, Any]) -> None:
        if self._as_json:
            line = json_line(fields)
        if line and sys.stdout.isatty() and not self.bar.disable:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)  # above the bar
        elif line:
            typer.echo(line)

    def _say_error(self, line: str) -> None:
        if self.bar.disable:
            say_error(line)
        else:
            self.bar.console.print(Text(f"headrace: {line}", style="red"), soft_wrap=True)  # above the bar

    @property
    def sum(self) -> str:
        """For a person."""
        rest = f", {self.failed} not" if self.failed else ""
        return f"{self._done} {counted(self._count)}{rest}"
