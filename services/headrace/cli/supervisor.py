"""The children of one process: started one after another, kept alive, stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from headrace.cli.child import Child, ChildSpec
from headrace.runtime.shutdown import exit_at_once

NATS = "nats"
"""The name of the child that is the broker."""


class Supervisor:
    """Starts children inside `running()`. Writers: `children` by `start`, `_tasks` by `running`."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self._tasks: asyncio.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<Supervisor {self.children}>"

    @asynccontextmanager
    async def running(self, stop_order: Sequence[str]) -> AsyncIterator[Self]:
        """Leaving the block stops the children one by one, in the order of their names.

        A child that fails before it is settled ends the block: its ChildFailed comes out once all children are gone.
        """
        async with asyncio.TaskGroup() as self._tasks:
            yield self
            for child in sorted(self.children, key=lambda child: stop_order.index(child.spec.name)):
                await child.stop()

    def start(self, spec: ChildSpec) -> Child:
        """Starts a child and keeps it running."""
        assert self._tasks is not None, "children are started inside running()"
        child = Child(spec)
        self.children.append(child)
        self._tasks.create_task(child.keep(), name=f"keep {spec.name}")
        return child

    def settle(self) -> None:
        """All of them have been ready once: from now on they are started again whatever happens."""
        for child in self.children:
            child.settle()

    def pass_on(self, number: int) -> None:
        """Passes a signal on to the processes of ours; to the broker it would mean something else."""
        for child in self.children:
            if child.spec.name != NATS:
                child.pass_on(number)

    def end_at_once(self, signum: int) -> None:
        """Kills all children and ends this process: what a second Ctrl-C asks for."""
        for child in self.children:
            child.kill()
        exit_at_once(signum)
