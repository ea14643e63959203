"""What the gateways are told of the models: which there are, who serves them, and how long their queues are."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping

from headrace.contract.alias import Alias
from headrace.contract.deliver import Model, ModelLoad
from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import parse_queue
from headrace.contract.values import Priority, Task
from headrace.router.aliases import Aliases
from headrace.router.conductor import Conductor
from headrace.router.core.events import ModelsKnown
from headrace.router.gateways import Gateways
from headrace.router.models import RouterModels
from headrace.router.queues import Queues
from headrace.router.workers import Workers

TELL_EVERY_S = 0.1
"""How old a queue position may be: a person does not notice it, and it is told only where it changed."""
LOOK_EVERY_S = 2.0
"""How soon a model that was pulled while the router runs is served."""


class Catalogue:
    """Watches the model store and the queues, and tells the core, the workers and the gateways."""

    def __init__(
        self,
        *,
        models: RouterModels,
        aliases: Aliases,
        queues: Queues,
        gateways: Gateways,
        conductor: Conductor,
        workers: Workers,
        wanted: Callable[[], Mapping[str, str]],
        missing: Callable[[], None],
    ) -> None:
        """`wanted` gives the references of the desired state with their versions; `missing` is called where a version
        is needed that is not here.
        """
        self._workers = workers
        self._wanted = wanted
        self._missing = missing
        self._now = asyncio.Event()
        self._models = models
        self._aliases = aliases
        self._queues = queues
        self._gateways = gateways
        self._conductor = conductor

    async def look(self) -> None:
        """Reads the model store once."""
        self._now.clear()
        wanted, offered = self._wanted(), self._workers.offered()
        if await asyncio.to_thread(self._models.look, wanted, offered):
            self._conductor.tell(ModelsKnown(models=self._models.names()))
            self._workers.models_changed()
        if self._models.missing:
            self._missing()

    def look_soon(self) -> None:
        """What is needed, or what is there, has changed."""
        self._now.set()

    async def run(self) -> None:
        """Tells the gateways what changed, until cancelled."""
        ticks = round(LOOK_EVERY_S / TELL_EVERY_S)
        while True:
            for _ in range(ticks):
                if self._now.is_set():
                    break
                self._gateways.catalogue(self._loads())
                await asyncio.sleep(TELL_EVERY_S)
            await self.look()

    def _loads(self) -> tuple[ModelLoad, ...]:
        backlog: dict[str, list[int]] = defaultdict(lambda: [0] * len(Priority))
        for subject in self._queues.subjects():
            if count := self._queues.backlog(subject):
                try:
                    queue = parse_queue(subject)
                except InvalidRequest:
                    continue
                backlog[queue.model][queue.priority] += count
        loads = {name: self._load(name, (name,), backlog[name]) for name in self._models.names()}
        for alias in self._aliases.all():  # one that has a model's name goes before it
            if known := tuple(model for model in alias.references if model in self._models.names()):
                loads[alias.name] = self._load(alias.name, known, backlog[alias.name], alias)
        return tuple(loads[name] for name in sorted(loads))

    def _load(
        self, name: str, models: tuple[str, ...], backlog: list[int], alias: Alias | None = None
    ) -> ModelLoad:
        model = self._models.get(models[0])
        assert model is not None
        load = self._conductor.load(*models)
        return ModelLoad(
            model=Model(
                name=name,
                alias=alias,
                version=model.manifest.version,
                task=Task(model.manifest.task),
                context_length=model.manifest.context_length,
                lanes=load.lanes,
            ),
            waiting=tuple(here + there for here, there in zip(load.waiting, backlog, strict=True)),
            seconds_per_request=round(load.seconds_per_request, 4),
            free_lanes=load.free_lanes,
            ready_in_s=None if load.lanes else self._ready_in_s(models),
        )

    def _ready_in_s(self, models: tuple[str, ...]) -> float | None:
        """Until a worker has the first of them; in whole seconds, as the catalogue is sent whenever it changes."""
        known = [s for model in models if (s := self._conductor.ready_in_s(model)) is not None]
        return float(round(min(known))) if known else None
