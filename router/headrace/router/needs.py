"""What is asked of each version that is wanted, as this router sees it: for the placer, where it leads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from headrace.contract.deployments import Wish
from headrace.contract.values import Task
from headrace.router.aliases import Aliases
from headrace.router.asked_meter import Asked, AskedMeter
from headrace.router.asked_versions import by_version
from headrace.router.conductor import Conductor
from headrace.router.expected_memory import expected_memory_bytes
from headrace.router.expected_work import expected_work_s
from headrace.router.models import RouterModels


class Needs:
    """Holds nothing: asks those who know."""

    def __init__(
        self,
        meter: AskedMeter,
        *,
        aliases: Aliases,
        serves: Callable[[str], bool],
        conductor: Conductor,
        models: RouterModels,
    ) -> None:
        """`serves` says whether somebody has lanes for a version."""
        self._meter = meter
        self._aliases = aliases
        self._serves = serves
        self._conductor = conductor
        self._models = models

    def look(self, now_s: float, wanted: Collection[str]) -> Mapping[str, Asked]:
        """By reference: what is asked of it by its name and by aliases, and waits in the broker; `wanted` has those of
        the desired state.
        """
        return by_version(self._meter.look(now_s), self._aliases.get, wanted=wanted, serves=self._serves)

    def held(self, reference: str) -> int:
        """Requests for it that wait here, and in the broker no more."""
        return self._conductor.held(reference)

    def work_s(self, reference: str) -> float:
        """Seconds of a lane that a request for it takes; more than 0."""
        model = self._models.get(reference)
        task = None if model is None else Task(model.manifest.task)
        return expected_work_s(reference, self._conductor.work_s, self._models.names(), task)

    def memory_bytes(self, wish: Wish) -> int:
        """What it takes of a node, until one has told that."""
        model = self._models.get(wish.reference)
        return expected_memory_bytes(wish, None if model is None else model.manifest)
