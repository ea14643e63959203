"""All that the desired state has on this worker, beside what its own settings say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from headrace.contract.deployments import Assignment, ModelState, NodeModel
from headrace.contract.work import ComingModel
from headrace.worker.roster import Roster
from headrace.worker.serving import ServingModel
from headrace.worker.speeds import Speeds
from headrace.worker.tenant import Bringer, Tenant

log = structlog.get_logger(__name__)

_COMING = (ModelState.ABSENT, ModelState.FETCHING, ModelState.LOADING)


class Tenants:
    """By reference. What the worker serves by its own settings is nobody else's: the same version is ready at once, and
    another one fails with the reason.
    """

    def __init__(
        self, own: Mapping[str, ServingModel], roster: Roster, speeds: Speeds, *, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when there is something to report. `bringer` is to be set before `want` is called."""
        self._own = dict(own)
        self._roster = roster
        self._speeds = speeds
        self._changed = changed
        self._tenants: dict[str, Tenant] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, NodeModel] = {}
        self.bringer: Bringer

    def want(self, assigned: Mapping[str, Assignment]) -> None:
        """All that is to be here, by reference."""
        self._refused = {
            reference: refused
            for reference, assignment in assigned.items()
            if (refused := self._by_own_settings(assignment)) is not None
        }
        theirs = {reference: a for reference, a in assigned.items() if reference not in self._own}
        for reference in theirs.keys() - self._tenants.keys():
            self._tenants[reference] = Tenant(reference, self.bringer, self._roster, changed=self.tell)
        for reference, tenant in list(self._tenants.items()):
            tenant.want(theirs.get(reference))
            if reference not in self._tasks and tenant.wanted is not None:
                self._start(tenant)
        self.tell()

    def wanted(self) -> frozenset[str]:
        """The `name@version` that are to stay in the store."""
        those = (tenant.wanted for tenant in self._tenants.values())
        return frozenset(assignment.exact for assignment in those if assignment is not None)

    def memory_bytes(self) -> int:
        """Of all that are loaded."""
        return sum(t.loaded.memory_bytes for t in self._tenants.values() if t.loaded is not None)

    async def room_to_come(self) -> bool:
        """Waits until one that is leaving is gone; False where none is."""
        leaving = [
            self._tasks[reference]
            for reference, tenant in self._tenants.items()
            if tenant.wanted is None and tenant.loaded is not None and reference in self._tasks
        ]
        if leaving:
            await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
        return bool(leaving)

    def tell(self) -> None:
        """Tells the router what is about to come, and that there is something to report."""
        now_s = asyncio.get_running_loop().time()
        self._roster.coming(
            tuple(
                ComingModel(
                    name=tenant.reference,
                    version=tenant.wanted.version,
                    ready_in_s=(
                        None
                        if tenant.progress.ready_at_s is None
                        else float(round(max(0.0, tenant.progress.ready_at_s - now_s), 1))
                    ),
                )
                for tenant in self._tenants.values()
                if tenant.wanted is not None and tenant.loaded is None and (tenant.progress.state in _COMING)
            )
        )
        self._changed()

    def report(self) -> tuple[NodeModel, ...]:
        """How far each is."""
        return (*self._refused.values(), *map(self._describe, self._tenants.values()))

    async def close(self) -> None:
        """Unloads all; nothing runs any more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for tenant in self._tenants.values():
            await tenant.close()

    def _start(self, tenant: Tenant) -> None:
        task = asyncio.create_task(tenant.run(), name=f"tenant {tenant.reference}")
        self._tasks[tenant.reference] = task
        task.add_done_callback(lambda ended: self._ended(tenant, ended))

    def _ended(self, tenant: Tenant, task: asyncio.Task[None]) -> None:
        self._tasks.pop(tenant.reference, None)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.error("tenant.failed", model=tenant.reference, kind=type(error).__name__, exc_info=error)
        if tenant.wanted is not None:  # wanted again in the very moment in which it had gone
            self._start(tenant)
        elif tenant.loaded is None:
            self._tenants.pop(tenant.reference, None)
        self.tell()

    def _by_own_settings(self, assignment: Assignment) -> NodeModel | None:
        own = self._own.get(assignment.reference)
        if own is None:
            return None
        same = own.served.version == assignment.version
        problem = (
            f"this worker serves {own.served.name}@{own.served.version} by its own settings (worker.models): deploy"
            f" {assignment.exact}, or leave it out there"
        )
        return NodeModel(
            reference=assignment.reference,
            version=assignment.version,
            state=ModelState.READY if same else ModelState.FAILED,
            progress=1.0 if same else 0.0,
            problem="" if same else problem,
            compute_type=own.served.compute_type,
            tokens_per_s=self._speeds.of(own.served.name, own.served.version),
        )

    def _describe(self, tenant: Tenant) -> NodeModel:
        wanted, loaded, progress = tenant.wanted, tenant.loaded, tenant.progress
        about = wanted or (loaded.assignment if loaded is not None else None)
        version = "" if about is None else about.version
        here = loaded is not None and loaded.assignment.version == version
        state = progress.state
        if state is ModelState.READY and not here:  # another version is, and this one is only asked for
            state = ModelState.ABSENT
        return NodeModel(
            reference=tenant.reference,
            version=version,
            state=state,
            progress=round(progress.fetched, 3),
            problem=progress.problem,
            compute_type=loaded.model.served.compute_type if loaded is not None and here else "",
            memory_bytes=loaded.memory_bytes if loaded is not None and here else 0,
            tokens_per_s=round(self._speeds.of(tenant.reference, version), 1),
        )
