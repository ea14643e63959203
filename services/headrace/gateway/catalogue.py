"""What the connected routers serve, as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from headrace.contract.alias import pick
from headrace.contract.deliver import Model, ModelLoad
from headrace.contract.errors import InvalidRequest, Unavailable, UnknownModel
from headrace.contract.values import Priority, QueuePosition, Task

RETRY_RANGE_S = (1.0, 60.0)
"""A client that is refused comes back no sooner and no later than this."""

SAME_TIME_S = 1e-4
"""Times cross the wire rounded."""


class Catalogue:
    """The union of the routers' catalogues. Writers: each router's link, for that router."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called when a first router comes or the last one goes."""
        self._loads: dict[str, dict[str, ModelLoad]] = {}
        self._on_change = on_change
        self._connected = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Catalogue of {len(self._loads)} routers: {', '.join(self.names()) or 'no models'}>"

    @property
    def connected(self) -> bool:
        """Whether at least one router is connected and has said what it serves."""
        return bool(self._loads)

    def update(self, router_id: str, loads: Sequence[ModelLoad]) -> None:
        """Replaces what a router serves."""
        first = not self._loads
        self._loads[router_id] = {load.model.name: load for load in loads}
        if first:
            self._connected.set()
            self._on_change()

    def forget(self, router_id: str) -> None:
        """The router is lost, or leaves."""
        if self._loads.pop(router_id, None) is not None and not self._loads:
            self._connected.clear()
            self._on_change()

    async def wait_connected(self, limit_s: float) -> None:
        """Returns when a router is connected. Raises Unavailable where none is after `limit_s`."""
        if self._loads:
            return
        try:
            async with asyncio.timeout(limit_s):
                await self._connected.wait()
        except TimeoutError:
            raise Unavailable("router", f"none was connected within {limit_s:g} s; try again") from None

    def names(self) -> list[str]:
        """Every model's name, sorted."""
        return sorted({name for loads in self._loads.values() for name in loads})

    def model_names(self) -> list[str]:
        """Those that are no alias, sorted; a model is also known by what an alias of its name comes to."""
        found: set[str] = set()
        for loads in self._loads.values():
            for name, load in loads.items():
                found.update((name,) if load.model.alias is None else load.model.alias.references)
        return sorted(found)

    def shows(self, name: str, changed_s: float | None) -> bool:
        """Whether every router has told of an alias as it changed then; None = that there is none."""
        for loads in self._loads.values():
            load = loads.get(name)
            alias = None if load is None else load.model.alias
            if changed_s is None or alias is None:
                if changed_s is not None or alias is not None:
                    return False
            elif alias.changed_s < changed_s - SAME_TIME_S:
                return False
        return True

    def require(self, model: str, task: Task = Task.GENERATE) -> None:
        """Raises UnknownModel, with those that there are, where no router serves `model`, and InvalidRequest where it
        is for another task everywhere.
        """
        tasks = {loads[model].model.task for loads in self._loads.values() if model in loads}
        if not tasks:
            raise UnknownModel(model, self.names())
        if task not in tasks:
            able = ", ".join(sorted(task.value for task in tasks))
            raise InvalidRequest("model", f"{model} is for {able}, not for {task.value}")

    def models(self) -> list[Model]:
        """Every model by name, with the lanes of all routers together; version and length are those that most run."""
        return [self._together(name) for name in self.names()]

    def _together(self, name: str) -> Model:
        models = [loads[name].model for loads in self._loads.values() if name in loads]
        most = max(models, key=lambda model: model.lanes)
        return replace(most, lanes=sum(model.lanes for model in models))

    def answering(self, model: str, request_id: str) -> str:
        """What will answer a request for `model` as things are: the version behind an alias."""
        targets = [loads[model].model.alias for loads in self._loads.values() if model in loads]
        alias = next((alias for alias in targets if alias is not None), None)
        return model if alias is None else pick(alias, request_id)

    def lanes(self, model: str) -> int:
        """The lanes that run it now, over all routers; 0 also where none knows it."""
        return sum(loads[model].model.lanes for loads in self._loads.values() if model in loads)

    def position(self, model: str, priority: Priority) -> QueuePosition:
        """The place that a request for `model` takes now.

        With several routers it is the place at the one that would be soonest: they pull from the same queue, and the
        one with room takes it. Unknown waits count as longest.
        """
        positions = [loads[model].position(priority) for loads in self._loads.values() if model in loads]
        if not positions:  # the last router that serves it has just left
            return QueuePosition(ahead=0, estimated_wait_s=None)
        return min(positions, key=lambda at: (_or_forever(at.estimated_wait_s), at.ahead))

    def retry_after_s(self, model: str) -> float:
        """When a full queue of `model` should have room for one more."""
        known = [loads[model].seconds_per_request for loads in self._loads.values() if model in loads]
        low, high = RETRY_RANGE_S
        return min(max(low, *known, low), high)


def _or_forever(wait_s: float | None) -> float:
    return float("inf") if wait_s is None else wait_s
