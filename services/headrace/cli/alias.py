"""`headrace model alias`, `canary`, `promote`, `rollback`, `shadow`: which version answers, and how others do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.options import AddressOption, JsonOption

if TYPE_CHECKING:
    from headrace.contract.alias import Alias

AliasArgument = Annotated[
    str, typer.Argument(metavar="ALIAS", help="The name that is asked for.", show_default=False)
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Also where no router knows the model, or no worker serves it.")
]
PercentOption = Annotated[
    float, typer.Option("--percent", metavar="P", min=0.0, max=100.0, help="Of the requests, 0 to 100.")
]
_MODEL = "A model, or model@version."

app = typer.Typer(
    no_args_is_help=True, help="Set, list and remove aliases: names for the version that answers."
)


@app.command("set")
def set_alias(
    name: AliasArgument,
    model: Annotated[str, typer.Argument(help=_MODEL, show_default=False)],
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            "--else",
            metavar="MODEL",
            help="Who answers where it is not served, or overloaded. Repeatable, in order; '' = nobody. Without it,"
            " those that there were stay.",
            show_default=False,
        ),
    ] = None,
    force: ForceOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a model, at once and for all; make it where there is none.

    Requests that run stay with their version. What answered before is what `rollback` goes back to.
    """
    from headrace.cli.gateway_call import call_admin

    fallbacks = None if fallback is None else [each for each in fallback if each]
    _say(
        call_admin(address, lambda admin: admin.set_alias(name, model, fallbacks=fallbacks, force=force)),
        as_json,
    )


@app.command("list")
def list_aliases(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """List the aliases, and how their versions do by the counts of the routers that live."""
    from headrace.cli.alias_view import print_states, states_json
    from headrace.cli.gateway_call import call_admin

    states = call_admin(address, lambda admin: admin.aliases())
    if as_json:
        typer.echo(states_json(states))
    else:
        print_states(states)


@app.command("remove")
def remove_alias(name: AliasArgument, address: AddressOption = None, as_json: JsonOption = False) -> None:
    """Take an alias away. What routers hold goes on; who asks for it afterwards is refused."""
    from headrace.cli.gateway_call import call_admin

    _say(call_admin(address, lambda admin: admin.remove_alias(name)), as_json, gone=True)


def canary(
    name: AliasArgument,
    model: Annotated[
        str, typer.Argument(help=f"{_MODEL} Without it, the canary that there is.", show_default=False)
    ] = "",
    percent: PercentOption = 5.0,
    force: ForceOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a new version answer a share of an alias's requests, chosen by their ids.

    Routers compare it with the stable one, and end it by themselves where it does worse (`headrace settings rollout`).
    """
    from headrace.cli.gateway_call import call_admin

    _say(
        call_admin(address, lambda admin: admin.canary(name, model, share=percent / 100, force=force)),
        as_json,
    )


def promote(
    name: AliasArgument,
    force: ForceOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the canary of an alias answer all of its requests."""
    from headrace.cli.gateway_call import call_admin

    _say(call_admin(address, lambda admin: admin.promote(name, force=force)), as_json)


def rollback(name: AliasArgument, address: AddressOption = None, as_json: JsonOption = False) -> None:
    """End the canary of an alias; where there is none, go back to what answered before."""
    from headrace.cli.gateway_call import call_admin

    _say(call_admin(address, lambda admin: admin.roll_back(name)), as_json)


def shadow(
    name: AliasArgument,
    model: Annotated[str, typer.Argument(help=f"{_MODEL} '' = nobody any more.", show_default=False)],
    percent: PercentOption = 5.0,
    force: ForceOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a version a copy of a share of an alias's requests, in the class `batch`, and compare what it answers.

    Its answers are discarded: nobody sees or keeps them, and `headrace model alias list` has counts alone.
    """
    from headrace.cli.gateway_call import call_admin

    _say(
        call_admin(address, lambda admin: admin.shadow(name, model, share=percent / 100, force=force)),
        as_json,
    )


def _say(alias: Alias, as_json: bool, *, gone: bool = False) -> None:
    from headrace.cli.alias_view import alias_json, alias_line

    typer.echo(alias_json(alias) if as_json else f"{'Removed: ' if gone else ''}{alias_line(alias)}")
