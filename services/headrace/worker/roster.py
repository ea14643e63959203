"""The models that this worker serves at the moment, and how one comes and goes while batches run.

A model goes in three steps, so that no batch meets its absence: the router is told, answers that it sends no more
batches of it, and those that run end. One that is replaced under its name goes when its last batch has ended; new
ones run on the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from headrace.contract.work import ComingModel, ServedModel
from headrace.worker.crew import Crew
from headrace.worker.outbox import Outbox
from headrace.worker.serving import ServingModel


class Roster:
    """Writes `models`, which the crew reads. Used on the event loop alone.

    Invariant: what a router was told of is in `models` until that router has answered, or is gone.
    """

    def __init__(self, models: dict[str, ServingModel], crew: Crew, outbox: Outbox) -> None:
        self._models = models
        self._crew = crew
        self._outbox = outbox
        self._joined = False
        self._leaving: dict[str, asyncio.Event] = {}
        self._coming: tuple[ComingModel, ...] = ()

    def __contains__(self, reference: str) -> bool:
        return reference in self._models

    def join(self) -> Sequence[ServedModel]:
        """What a router that is joined now is told of."""
        self._joined = True
        if self._coming:
            self._outbox.tell_coming(self._coming)
        return [model.served for name, model in self._models.items() if name not in self._leaving]

    def part(self) -> None:
        """The router is gone: nobody sends batches."""
        self._joined = False
        self.released(tuple(self._leaving))

    def released(self, references: Sequence[str]) -> None:
        """The router has answered."""
        for reference in references:
            if (answered := self._leaving.get(reference)) is not None:
                answered.set()

    def coming(self, models: tuple[ComingModel, ...]) -> None:
        """All that is about to be loaded."""
        if models != self._coming:
            self._coming = models
            if self._joined:
                self._outbox.tell_coming(models)

    async def come(self, model: ServingModel) -> None:
        """Serves a model, in the place of any other of its name: returns when nothing runs on that any more."""
        reference = model.served.name
        former = self._models.get(reference)
        self._models[reference] = model
        if self._joined:
            self._outbox.tell_came(model.served)
        if former is not None:
            await self._crew.unused(former)

    async def unused(self, model: ServingModel) -> None:
        """Returns when nothing runs on it."""
        await self._crew.unused(model)

    async def go(self, reference: str) -> None:
        """Serves a model no more: returns when nothing runs on it any more."""
        model = self._models[reference]
        self._leaving[reference] = answered = asyncio.Event()
        try:
            if self._joined:
                self._outbox.tell_went(reference)
                await answered.wait()
            if self._models.get(reference) is model:
                del self._models[reference]
        finally:
            del self._leaving[reference]
        await self._crew.unused(model)
