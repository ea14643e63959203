"""A group of commands whose module is imported when one of them is used or listed, not before."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import typer
import typer.core
import typer.main


def deferred(module: str, *, help: str) -> typer.Typer:
    """A stand-in for the Typer application `app` of `module`, shown with `help` in the list of commands."""

    @cache
    def load() -> typer.core.TyperGroup:
        group = typer.main.get_group(importlib.import_module(module).app)
        assert isinstance(group, typer.core.TyperGroup)
        return group

    class DeferredGroup(typer.core.TyperGroup):
        # The types of a context and a command are typer's own affair, and move between its versions.
        def list_commands(self, ctx: Any) -> list[str]:
            return load().list_commands(ctx)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return load().get_command(ctx, cmd_name)

    return typer.Typer(cls=DeferredGroup, help=help, no_args_is_help=True)
