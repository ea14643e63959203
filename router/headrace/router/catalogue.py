"""What the gateways are told of the models: which there are, who serves them, and how long their queues are."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from headrace.contract.deliver import Model, ModelLoad
from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import parse_queue
from headrace.contract.values import Priority, Task
from headrace.router.conductor import Conductor
from headrace.router.core.events import ModelsKnown
from headrace.router.gateways import Gateways
from headrace.router.models import RouterModels
from headrace.router.queues import Queues

TELL_EVERY_S = 0.1
"""How old a queue position may be: a person does not notice it, and it is told only where it changed."""
LOOK_EVERY_S = 2.0
"""How soon a model that was pulled while the router runs is served."""


class Catalogue:
    """Watches the model store and the queues, and tells the core and the gateways."""

    def __init__(
        self, *, models: RouterModels, queues: Queues, gateways: Gateways, conductor: Conductor
    ) -> None:
        self._models = models
        self._queues = queues
        self._gateways = gateways
        self._conductor = conductor

    async def look(self) -> None:
        """Reads the model store once."""
        if await asyncio.to_thread(self._models.look):
            self._conductor.tell(ModelsKnown(models=self._models.names()))

    async def run(self) -> None:
        """Tells the gateways what changed, until cancelled."""
        ticks = round(LOOK_EVERY_S / TELL_EVERY_S)
        while True:
            for _ in range(ticks):
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
        return tuple(self._load(name, backlog[name]) for name in sorted(self._models.names()))

    def _load(self, name: str, backlog: list[int]) -> ModelLoad:
        model = self._models.get(name)
        assert model is not None
        load = self._conductor.load(name)
        return ModelLoad(
            model=Model(
                name=name,
                version=model.manifest.version,
                task=Task(model.manifest.task),
                context_length=model.manifest.context_length,
                lanes=load.lanes,
            ),
            waiting=tuple(here + there for here, there in zip(load.waiting, backlog, strict=True)),
            seconds_per_request=round(load.seconds_per_request, 4),
            free_lanes=load.free_lanes,
        )
