"""`headrace model push, deploy, undeploy, ps, remove`: models across the mesh, by way of its NATS."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.failures import one_line_errors
from headrace.cli.options import ConfigOption, JsonOption, ModelStoreOption, NatsUrlOption, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from headrace.contract.deployments import NodeReport
    from headrace.models.desired import Place
    from headrace.runtime.settings import Settings

Ref = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@VERSION]",
        help="Which model; of a version as many digits as tell it apart.",
        show_default=False,
    ),
]
_PIPE_WIDTH = 200
"""Where no terminal says how wide it is: enough for a model a line."""


def push_model(
    reference: Ref,
    force: Annotated[
        bool, typer.Option("--force", help="Send everything anew, though it is there: it may be damaged.")
    ] = False,
    models: ModelStoreOption = None,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Put a model of this machine's store into the object store of NATS, from where the nodes fetch it.

    It is verified first. What is there already is not sent again; an interrupted push goes on where it was.
    """
    from nats.aio.client import Client
    from rich.console import Console

    from headrace.cli.byte_progress import byte_progress
    from headrace.cli.nats_call import call_nats
    from headrace.models.bucket import FilesBucket
    from headrace.models.push import Pushed, push
    from headrace.models.store import ModelStore

    settings, console = _settings(models, nats_url, config), Console(stderr=True)
    with one_line_errors():
        store = ModelStore(settings.models)
        there = store.open(reference).reference
        with byte_progress(console, "verifying") as progress:
            model = store.verify(there, progress)

    async def pushing(nc: Client) -> Pushed:
        with byte_progress(console, "pushing") as progress:
            return await push(FilesBucket(nc), model, progress, force=force)

    pushed = call_nats(settings.nats, "model", pushing)
    sent = f"{pushed.sent / 1e6:.1f} of {pushed.size / 1e6:.1f} MB sent"
    console.print(f"{pushed.reference} is in the mesh ({sent}).", highlight=False, soft_wrap=True)


def deploy_model(
    reference: Ref,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="Only on nodes with this label. Repeatable."),
    ] = None,
    replicas: Annotated[
        int, typer.Option("--replicas", metavar="N", help="On so many nodes; 0: on each that can have it.")
    ] = 1,
    compute_type: Annotated[
        str, typer.Option("--compute-type", metavar="TYPE", help="Number format, such as int8 or float16.")
    ] = "auto",
    device: Annotated[
        str, typer.Option("--device", metavar="KIND", help="cpu or cuda; auto takes either.")
    ] = "auto",
    models: ModelStoreOption = None,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Want a model on nodes of the mesh: they fetch and load it, and requests for it wait meanwhile.

    A bare name means the version that was pushed last. Deploying a name again takes its new version in the place of the
    old one without a pause; other terms take effect as well.
    """
    from nats.aio.client import Client

    from headrace.cli.nats_call import call_nats
    from headrace.models.desired import Deployed, Terms, deploy
    from headrace.models.store import ModelStore

    terms = Terms(labels=_pairs(labels or []), device=device, replicas=replicas, compute_type=compute_type)
    settings = _settings(models, nats_url, config)

    async def deploying(nc: Client) -> Deployed:
        return await deploy(nc, ModelStore(settings.models), reference, terms)

    deployed = call_nats(settings.nats, "model", deploying)
    where = "each node that can have it" if not replicas else f"{replicas} node{'s' * (replicas > 1)}"
    typer.echo(f"{deployed.wish.exact} is wanted as {deployed.wish.reference} on {where}.", err=True)
    if not deployed.pushed:
        push = f"headrace model push {deployed.wish.exact}"
        typer.echo(f"It is not pushed: only nodes that have it in their store can serve it. {push}", err=True)


def undeploy_model(reference: Ref, nats_url: NatsUrlOption = None, config: ConfigOption = None) -> None:
    """Want a model no more: nodes unload it when their running batches have ended."""
    from headrace.cli.nats_call import call_nats
    from headrace.models.desired import undeploy

    settings = _settings(None, nats_url, config)
    wish = call_nats(settings.nats, "model", lambda nc: undeploy(nc, reference))
    typer.echo(f"{wish.reference} ({wish.version}) is not wanted any more.", err=True)


def remove_model(
    reference: Ref,
    pushed: Annotated[
        bool, typer.Option("--pushed", help="From the object store of NATS, not from this machine.")
    ] = False,
    models: ModelStoreOption = None,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Delete a model from this machine's store, all versions of it where none is named.

    What a worker here has loaded stays, and so does, in the object store, what is deployed.
    """
    settings = _settings(models, nats_url, config)
    if pushed:
        from headrace.cli.nats_call import call_nats
        from headrace.models.desired import remove_from_bucket

        gone = [call_nats(settings.nats, "model", lambda nc: remove_from_bucket(nc, reference))]
    else:
        with one_line_errors():
            gone = _remove_here(settings, reference)
    for each in gone:
        typer.echo(f"{each} is removed.", err=True)


def _remove_here(settings: Settings, reference: str) -> list[str]:
    from headrace.contract.errors import UnknownModel
    from headrace.models.errors import DamagedModel
    from headrace.models.room import remove_unused
    from headrace.models.store import ModelStore

    store = ModelStore(settings.models)
    try:
        those = [store.open(reference)]
    except DamagedModel:  # nobody can load it
        store.remove(reference)
        return [reference]
    except UnknownModel:
        those = []
    if "@" not in reference:
        those = [model for model in store.versions() if model.name == reference]
    if not those:
        raise UnknownModel(reference, store.names())
    for model in those:
        remove_unused(store, model)
    return [model.reference for model in those]


def show_models(
    as_json: JsonOption = False, nats_url: NatsUrlOption = None, config: ConfigOption = None
) -> None:
    """Show which models are wanted, where they are and how far, the memory they take and their speed."""
    from nats.aio.client import Client

    from headrace.cli.nats_call import call_nats
    from headrace.models.desired import nodes, places

    settings = _settings(None, nats_url, config)

    async def looking(nc: Client) -> tuple[Sequence[Place], Sequence[NodeReport]]:
        return await places(nc), await nodes(nc)

    found, reports = call_nats(settings.nats, "model", looking)
    if as_json:
        document = {"models": [_fields(place) for place in found], "nodes": [_node(r) for r in reports]}
        typer.echo(json.dumps(document, indent=2))
    else:
        _print(found, reports)


def _fields(place: Place) -> dict[str, Any]:
    model = place.model
    return {
        "reference": place.reference,
        "version": place.version,
        "node": place.node,
        "state": place.state.value,
        "progress": 0.0 if model is None else model.progress,
        "problem": place.reason if model is None else model.problem,
        "wanted": place.wanted,
        "compute_type": "" if model is None else model.compute_type,
        "memory_bytes": 0 if model is None else model.memory_bytes,
        "tokens_per_s": 0.0 if model is None else model.tokens_per_s,
    }


def _node(report: NodeReport) -> dict[str, Any]:
    fields = asdict(report)
    del fields["models"]
    return fields


def _print(found: Sequence[Place], reports: Sequence[NodeReport]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from headrace.cli.stream_view import harmless

    out = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    if not found and not reports:
        out.print("No node reports, and nothing is deployed.")
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("model", "version", "node", "state", "as", "memory", "tokens/s a lane"):
        table.add_column(column, no_wrap=column != "state", overflow="fold")
    for place in found:
        f = _fields(place)
        table.add_row(
            Text(harmless(place.reference, sys.stdout), style="bold"),
            harmless(place.version, sys.stdout),
            harmless(place.node or "-", sys.stdout),
            Text(harmless(_state(place, f), sys.stdout), style="red" if f["state"] == "failed" else ""),
            harmless(f["compute_type"], sys.stdout),
            _megabytes(f["memory_bytes"]),
            f"{f['tokens_per_s']:.0f}" if f["tokens_per_s"] else "",
        )
    out.print(table)
    for report in reports:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(report.labels.items()))
        line = (
            f"{report.node}: {report.device}, {_megabytes(report.free_bytes)} of"
            f" {_megabytes(report.memory_bytes)} free for models{', ' + labels if labels else ''}"
        )
        out.print(harmless(line, sys.stdout), markup=False, soft_wrap=True)


def _state(place: Place, fields: Mapping[str, Any]) -> str:
    state: str = fields["state"]
    if state == "fetching":
        state = f"fetching {100 * fields['progress']:.0f} %"
    if fields["problem"]:
        state = f"{state}: {fields['problem']}"
    return f"{state} (worker.models)" if place.model is not None and place.model.own else state


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size else ""


def _pairs(labels: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{label!r} must be KEY=VALUE, such as zone=a", param_hint="--label")
        pairs[key.strip()] = value.strip()
    return pairs


def _settings(models: Path | None, nats_url: str | None, config: Path | None) -> Settings:
    overrides = {"models": models, "nats.url": nats_url}
    return read_settings(config, {key: value for key, value in overrides.items() if value is not None})
