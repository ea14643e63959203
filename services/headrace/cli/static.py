"""`headrace model static`: which system prompts engines keep computed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.options import AddressOption, JsonOption

app = typer.Typer(
    no_args_is_help=True, help="Say which system prompts of a model are kept computed, and what that spares."
)


@app.command("set")
def set_static(
    model: Annotated[str, typer.Argument(help="The model's name.", show_default=False)],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Text files, a system prompt each, as it is; none: nothing is kept any more.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    address: AddressOption = None,
) -> None:
    """Replace the static prompts of a model.

    A request that begins with one, as its system message or as its bare prompt, is given to a worker that has computed
    it, and only the rest is prefilled. Each takes memory on each worker until the model is unloaded: keep a few.
    """
    from headrace.cli.failures import one_line_errors
    from headrace.cli.gateway_call import call_admin
    from headrace.contract.errors import InvalidRequest

    with one_line_errors():
        try:
            prompts = [path.read_text(encoding="utf-8") for path in files or ()]
        except UnicodeDecodeError as error:
            raise InvalidRequest("files", f"a file is no UTF-8 text ({error.reason})") from None
    done = call_admin(address, lambda admin: admin.set_static_prompts(model, prompts))
    typer.echo(f"{done.model}: {len(done.prompts)} static prompts")


@app.command("list")
def list_static(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """List how many static prompts models have, and what they spared, by the routers that live.

    The texts are shown with --json alone.
    """
    import dataclasses

    from headrace.cli.gateway_call import call_admin
    from headrace.cli.stream_view import harmless

    models, counts = call_admin(address, lambda admin: admin.static_prompts())
    if as_json:
        document = {
            "models": [dataclasses.asdict(one) for one in models],
            "counts": [dataclasses.asdict(one) for one in counts],
        }
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for one in models:
        sizes = ", ".join(f"{len(text.encode())} bytes" for text in one.prompts)
        typer.echo(f"{harmless(one.model, sys.stdout)}: {sizes}")
    for spared in counts:
        asked = spared.hits + spared.misses
        typer.echo(
            f"{harmless(spared.model, sys.stdout)}: {spared.hits} of {asked} requests found it computed,"
            f" {spared.tokens} prompt tokens spared"
        )
    if not models:
        typer.echo("No static prompts. Set some with: headrace model static set MODEL FILE…", err=True)
