"""What must not be there at the end: messages, open files, processes, temporary files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil

from headrace.contract.values import OutcomeKind
from tests.chaos.census import SETTLED_S, Size
from tests.chaos.checker import Violation
from tests.chaos.durable import Durable
from tests.chaos.mesh import Mesh

MORE_FILES = 12
"""Open files that a process may have more at the end, when only its peers are connected, than when it was young."""


def left_over(durable: Durable, *, empty: bool) -> list[Violation]:
    """In the broker; and dead letters that are none, or too few."""
    failed = sum(outcome.kind is OutcomeKind.FAILED for outcome in durable.outcomes.values())
    if durable.dead_letters != failed:
        what = f"{durable.dead_letters} for {failed} requests that failed"
        return [Violation(promise="dead letters", what=what)]
    if empty:
        return []
    what = f"{durable.left} messages and {durable.pending} deliveries at the end"
    return [Violation(promise="queues", what=what)]


def grown(sizes: Iterable[Size], mesh: Mesh) -> list[Violation]:
    """Open files of the processes that live at the end."""
    out = []
    for size in sizes:
        if size.number == mesh.lives[size.name].number and size.age_s > 2 * SETTLED_S:
            more = size.last_files - size.first_files
            if more > MORE_FILES:
                out.append(Violation(promise="files", what=f"{size.name} has {more} more open than young"))
    return out


def oldest(sizes: Iterable[Size]) -> list[Size]:
    """The longest life of each process."""
    found: dict[str, Size] = {}
    for size in sizes:
        if size.name not in found or size.age_s > found[size.name].age_s:
            found[size.name] = size
    return [found[name] for name in sorted(found)]


def left_behind(mesh: Mesh) -> list[Violation]:
    """Processes and temporary files."""
    out = []
    mine = {life.pid for life in mesh.lives.values()}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if child.pid in mine or str(mesh.folder) in " ".join(child.cmdline()):
                out.append(Violation(promise="process", what=f"process {child.pid} is left"))
    for path in mesh.temporary.rglob("*"):
        out.append(Violation(promise="files", what=f"a temporary file is left: {path.name}"))
    return out
