"""The engine's process, from the parent's side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.bench.child_job import ChildJob
from headrace.bench.direct import Runs
from headrace.bench.direct_process import JOB, REQUESTS, RESULT, DirectJob, DirectResult
from headrace.bench.driver import ToSend
from headrace.bench.plan import EngineSetup


class DirectEngine:
    """An engine in a process of its own, as an async context manager: inside it the model is loaded."""

    def __init__(self, store: Path, model: str, setup: EngineSetup, folder: Path) -> None:
        """`folder` takes what goes to and fro."""
        self.lanes = setup.lanes
        self._folder = folder
        self._job = DirectJob(store=store, model=model, **asdict(setup))
        job_path = folder / "direct-job.json"
        self._child = ChildJob("headrace.bench.direct_process", str(job_path))
        job_path.write_bytes(JOB.dump_json(self._job))

    async def run(
        self, requests: Sequence[ToSend], how: Runs, progress: Callable[[int], None]
    ) -> DirectResult:
        """Puts `requests` to the engine. Raises ChildFailed."""
        asked, answered = self._folder / "direct-requests.json", self._folder / "direct-result.json"
        asked.write_bytes(REQUESTS.dump_json(list(requests)))
        await self._child.say(requests=str(asked), result=str(answered), how=asdict(how))
        while not (heard := await self._child.hear()).get("ended"):
            progress(heard["done"])
        return RESULT.validate_json(answered.read_bytes())

    async def __aenter__(self) -> Self:
        await self._child.__aenter__()
        try:
            await self._child.hear()  # it is loaded
        except BaseException as error:
            await self._child.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._child.__aexit__(kind, error, tb)
