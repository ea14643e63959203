"""`headrace dead`: the requests that were given up, looked at, asked again or thrown away."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.dead_options import (
    AllOption,
    CodeOption,
    ModelOption,
    NumberArgument,
    NumbersArgument,
    SinceOption,
    TenantOption,
    YesOption,
    build_choice,
    build_wanted,
)
from headrace.cli.failures import bad_input
from headrace.cli.options import (
    ConfigOption,
    JsonOption,
    NatsUrlOption,
    SetOption,
    gather_overrides,
    read_settings,
)

if TYPE_CHECKING:
    from headrace.dead.letter import Letter
    from headrace.dead.letters import DeadLetters

app = typer.Typer(no_args_is_help=True, help="List, show, replay and drop dead letters.")

_TABLE_LIMIT = 1000
"""A table is laid out as a whole; what is longer is for other programs, as JSON."""


@app.command(
    "list",
    epilog="Examples:\n  headrace dead list --since 1h\n  headrace dead list --limit 0 --json | jq .code",
)
def list_letters(
    model: ModelOption = "",
    tenant: TenantOption = "",
    code: CodeOption = "",
    since: SinceOption = "",
    limit: Annotated[
        int,
        typer.Option("--limit", metavar="N", min=0, help="At most so many; with --json, 0 lists all."),
    ] = 20,
    as_json: JsonOption = False,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """List the requests that were given up, the newest first, without their content."""
    if not as_json and not 1 <= limit <= _TABLE_LIMIT:
        raise bad_input(f"--limit must lie in 1 … {_TABLE_LIMIT}; --json lists more, and all with --limit 0")
    wanted = build_wanted(model, tenant, code, since)
    settings = read_settings(config, gather_overrides(assignments, {"nats.url": nats_url}))

    from headrace.cli.dead_call import call_letters
    from headrace.cli.dead_view import json_line, letter_fields, print_table

    async def read(letters: DeadLetters) -> tuple[list[Letter], bool]:
        listed: list[Letter] = []
        number = 0
        async with aclosing(letters.newest_first(wanted)) as pages:
            async for page in pages:
                for letter in page:
                    if limit and number == limit:
                        return listed, True
                    number += 1
                    if as_json:
                        typer.echo(json_line(letter_fields(letter)))
                    else:
                        listed.append(letter.without_body)
        return listed, False

    listed, more = call_letters(settings, read)
    if not as_json and listed:
        print_table(listed)
    elif not as_json:
        typer.echo("no dead letters", err=True)
    if more:
        typer.echo(f"there are more than {limit}; --limit says how many to list", err=True)


@app.command("show", epilog="Examples:\n  headrace dead show 12\n  headrace dead show 12 --content")
def show_letter(
    number: NumberArgument,
    content: Annotated[
        bool, typer.Option("--content", help="Show what was asked, too. It may be private.")
    ] = False,
    as_json: JsonOption = False,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Show all that is known of one letter: its error, trace and headers, and whether it can be replayed."""
    settings = read_settings(config, gather_overrides(assignments, {"nats.url": nats_url}))

    from headrace.cli.dead_call import call_letters
    from headrace.cli.dead_view import json_line, print_letter, whole_fields
    from headrace.dead.replay import CannotReplay, plan_replay
    from headrace.dead.whole import ContentMissing, whole

    async def read(letters: DeadLetters) -> tuple[Letter, str]:
        """The letter with all of its content, and why it cannot be replayed."""
        letter = await letters.get(number)
        try:
            letter = await whole(letters, letter)
            plan_replay(letter, now_s=time.time())
        except CannotReplay as error:
            return letter, error.reason
        except ContentMissing as error:
            return letter, str(error)
        return letter, ""

    letter, refusal = call_letters(settings, read)
    fields = whole_fields(letter, refusal, content=content)
    if as_json:
        typer.echo(json_line(fields))
    else:
        print_letter(fields)


@app.command(
    "replay",
    epilog="Examples:\n  headrace dead replay 12 13\n  headrace dead replay --model smollm2 --since 1h --yes",
)
def replay_letters(
    numbers: NumbersArgument = None,
    model: ModelOption = "",
    tenant: TenantOption = "",
    code: CodeOption = "",
    since: SinceOption = "",
    every: AllOption = False,
    no_deadline: Annotated[
        bool, typer.Option("--no-deadline", help="Leave out deadlines that have passed, instead of refusing.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Ask requests again that were given up. Each gets a new id, which is printed, and its letter is removed.

    The old id keeps its outcome, failed. Interrupted, it can be run again: nothing is asked twice.
    """
    choice = build_choice(numbers, model, tenant, code, since, every=every)
    settings = read_settings(config, gather_overrides(assignments, {"nats.url": nats_url}))

    from headrace.cli.dead_bulk import Deed, carry_out
    from headrace.dead.replay import replay

    async def act(letters: DeadLetters, letter: Letter) -> tuple[str, dict[str, Any]]:
        made = await replay(letters, letter, without_deadline=no_deadline)
        note = "  (an earlier replay had asked it already)" if made.again else ""
        line = f"{made.number}  {made.request_id or 'no id'} → {made.new_request_id}{note}"
        ids = {"request_id": made.request_id, "new_request_id": made.new_request_id}
        return line, {**ids, "again": made.again}

    carry_out(settings, choice, Deed(verb="replay", done="replayed", act=act), yes=yes, as_json=as_json)


@app.command(
    "drop", epilog="Examples:\n  headrace dead drop 12\n  headrace dead drop --code MALFORMED_MESSAGE --yes"
)
def drop_letters(
    numbers: NumbersArgument = None,
    model: ModelOption = "",
    tenant: TenantOption = "",
    code: CodeOption = "",
    since: SinceOption = "",
    every: AllOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Throw letters away. Their requests keep their outcome, failed."""
    choice = build_choice(numbers, model, tenant, code, since, every=every)
    settings = read_settings(config, gather_overrides(assignments, {"nats.url": nats_url}))

    from headrace.cli.dead_bulk import Deed, carry_out
    from headrace.dead.whole import drop

    async def act(letters: DeadLetters, letter: Letter) -> tuple[str, dict[str, Any]]:
        await drop(letters, letter)
        return "", {"request_id": letter.dead.request_id}

    carry_out(settings, choice, Deed(verb="drop", done="dropped", act=act), yes=yes, as_json=as_json)
