"""Aliases for people and for other programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from headrace.cli.stream_view import harmless
from headrace.contract.alias import Alias
from headrace.contract.rollout import AliasState, ShadowCounts, VersionCounts

_PIPE_WIDTH = 200
"""Where no terminal says how wide it is."""


def targets(alias: Alias) -> str:
    """`→ smollm2; canary smollm2@1a2b 5 %; else tiny`."""
    parts = [f"→ {alias.stable}"]
    if alias.canary:
        parts.append(f"canary {alias.canary} {_percent(alias.share)}")
    if alias.fallbacks:
        parts.append(f"else {', '.join(alias.fallbacks)}")
    return harmless("; ".join(parts), sys.stdout)


def alias_line(alias: Alias) -> str:
    """`chat → smollm2; canary smollm2@1a2b 5 %; else tiny; shadow smollm2@1a2b 10 %`."""
    parts = [f"{alias.name} {targets(alias)}"]
    if alias.shadow:
        parts.append(f"shadow {alias.shadow} {_percent(alias.shadow_share)}")
    if alias.previous:
        parts.append(f"before that {alias.previous}")
    if alias.note:
        parts.append(alias.note)
    return harmless("; ".join(parts), sys.stdout)


def alias_json(alias: Alias) -> str:
    return json.dumps(dataclasses.asdict(alias), ensure_ascii=False)


def states_json(states: Iterable[AliasState]) -> str:
    """A list of objects: the alias's fields, its revision, and the counts of its versions and shadows."""
    documents = [
        {
            **dataclasses.asdict(state.alias),
            "revision": state.revision,
            "versions": [dataclasses.asdict(one) for one in state.counts.versions],
            "shadows": [dataclasses.asdict(one) for one in state.counts.shadows],
        }
        for state in states
    ]
    return json.dumps(documents, indent=2, ensure_ascii=False)


def print_states(states: Sequence[AliasState]) -> None:
    """A line for each alias, and a table of how versions do."""
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    if not states:
        console.print("No aliases. Make one with: headrace model alias set chat smollm2")
    for state in states:
        console.print(alias_line(state.alias), markup=False, soft_wrap=True)
    versions = [one for state in states for one in state.counts.versions]
    if versions:
        console.print(_version_table(versions))
    shadows = [one for state in states for one in state.counts.shadows]
    if shadows:
        console.print(_shadow_table(shadows))


def _version_table(versions: Iterable[VersionCounts]) -> Table:
    table = Table(
        "alias", "version", "answered", "failed", "late", "first token", box=box.SIMPLE, pad_edge=False
    )
    for one in versions:
        table.add_row(
            *_texts(one.alias, one.model),
            str(one.answered),
            _part(one.failed, one.answered),
            _part(one.late, one.answered),
            _mean(one.first_token_s, one.first_tokens),
        )
    return table


def _shadow_table(shadows: Iterable[ShadowCounts]) -> Table:
    table = Table(
        *(
            "alias",
            "shadow",
            "copies",
            "not sent",
            "failed",
            "same answer",
            "same tokens",
            "time",
            "client's",
        ),
        box=box.SIMPLE,
        pad_edge=False,
    )
    for one in shadows:
        table.add_row(
            *_texts(one.alias, one.model),
            str(one.copies),
            str(one.dropped),
            _part(one.failed, one.copies),
            _part(one.same, one.same + one.different),
            _part(one.same_tokens, one.tokens),
            _mean(one.answer_s, one.answers),
            _mean(one.answer_s_of_client, one.answers),
        )
    return table


def _texts(*names: str) -> list[Any]:
    return [harmless(name, sys.stdout) for name in names]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _part(count: int, whole: int) -> str:
    return f"{count} ({_percent(count / whole)})" if whole else str(count)


def _mean(total_s: float, count: int) -> str:
    return f"{total_s / count:.3f} s" if count else ""
