"""`headrace settings`: everything that can be set."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from headrace.cli.failures import bad_input
from headrace.cli.options import JsonOption


def settings(
    section: Annotated[
        str,
        typer.Argument(
            metavar="[PREFIX]", help="Only keys that begin so, such as `router`.", show_default=False
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List every setting: its key, environment variable, default, and what it does.

    Flags win over the environment, the environment over the TOML file, the file over the defaults.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from headrace.runtime.settings import describe

    docs = [doc for doc in describe() if doc.key.startswith(section)]
    if not docs:
        raise bad_input(f"no setting begins with {section!r}; `headrace settings` lists them all")
    if as_json:
        fields = ("key", "env", "default", "allowed", "description")
        typer.echo(
            json.dumps(
                [{name: getattr(doc, name) for name in fields} for doc in docs], indent=2, ensure_ascii=False
            )
        )
        return
    table = Table("setting", "what it does", box=box.SIMPLE, pad_edge=False)
    table.columns[0].no_wrap = True
    for doc in docs:
        table.add_row(
            Text.assemble((doc.key, "bold"), f"\n{doc.env}\n", (f"default: {doc.default}", "green")),
            Text.assemble(f"{doc.description}\n", (f"{doc.allowed}\n", "dim")),
        )
    Console(highlight=False).print(table)
