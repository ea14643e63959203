"""The models that a mesh is to serve, brought into the store before it starts."""

from __future__ import annotations

from rich.console import Console

from headrace.contract.errors import StartError
from headrace.models.catalogue import CATALOGUE
from headrace.models.store import ModelStore
from headrace.runtime.settings import Settings

DEFAULT_MODEL = "smollm2"
"""What a newcomer gets: small, sensible, free to use, and to be had without an account."""


def bring_models(settings: Settings, *, pulling: bool) -> None:
    """Pulls what is wanted and missing: the models named by `worker.models`, or the default where the store is empty.

    Raises StartError where something is missing and must not, or cannot, be pulled.
    """
    store = ModelStore(settings.models)
    there = store.names()
    wanted = settings.worker.models or (() if there else (DEFAULT_MODEL,))
    for name in (name for name in wanted if name not in there):
        if name not in CATALOGUE:
            known = ", ".join(sorted({*there, *CATALOGUE}))
            raise StartError(f"there is no model {name!r}", f"Known here: {known}")
        if not pulling:
            raise StartError(
                f"model {name!r} is not in the model store {settings.models}",
                f"Get it with `headrace model pull {name}`, or leave --no-pull out",
            )
        _pull(store, name)


def check_there(store: ModelStore, name: str) -> None:
    """Raises StartError, with what to do, where the store has no model of that name."""
    there = store.names()
    if name in there:
        return
    if name in CATALOGUE:
        raise StartError(
            f"model {name!r} is not in the model store {store.root}",
            f"Get it with `headrace model pull {name}`",
        )
    known = ", ".join(sorted({*there, *CATALOGUE}))
    raise StartError(f"there is no model {name!r}", f"Known here: {known}")


def _pull(store: ModelStore, name: str) -> None:
    from headrace.cli.pull_progress import PullProgress
    from headrace.models.pull import pull

    console = Console(stderr=True)
    console.print(f"Getting the model {name}, once: {CATALOGUE[name].summary}.")
    with PullProgress(console) as progress:
        pull(store, name, progress.report)
