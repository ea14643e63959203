"""Runs, in processes of their own where several are wanted. The order of the results is that of the jobs."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from headrace.simulator.capacity import capacity
from headrace.simulator.figures import Figures
from headrace.simulator.run import simulate
from headrace.simulator.scenario import Scenario, Setup

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

Progress = Callable[[str, int, int], None]
"""What is done now, how much of it is, of how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run at an offered load; None = everything at once."""

    setup: Setup
    seed: int
    offered: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search for the capacity of a setup."""

    setup: Setup
    seed: int


def run_all(
    scenario: Scenario, runs: Sequence[Run], *, processes: int, what: str, progress: Progress
) -> list[Figures]:
    """The figures of each."""
    return _each(_run, scenario, runs, processes, what, progress)


def search_all(
    scenario: Scenario, searches: Sequence[Search], *, processes: int, what: str, progress: Progress
) -> list[float]:
    """The capacity of each, in tokens a second."""
    return _each(_search, scenario, searches, processes, what, progress)


def _run(scenario: Scenario, job: Run, told: Callable[[int], None] | None = None) -> Figures:
    return simulate(scenario, job.setup, job.seed, offered=job.offered, progress=told)


def _search(scenario: Scenario, job: Search, told: Callable[[int], None] | None = None) -> float:
    return capacity(
        lambda offered: simulate(scenario, job.setup, job.seed, offered=offered).goodput, scenario
    )


def _each(
    do: Callable[..., _Result],
    scenario: Scenario,
    jobs: Sequence[_Job],
    processes: int,
    what: str,
    progress: Progress,
) -> list[_Result]:
    if processes == 1 or len(jobs) < 2:
        return list(_here(do, scenario, jobs, what, progress))
    # A fresh interpreter for each: whatever this one has open stays its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(processes, len(jobs)), mp_context=context, initializer=_end_at_ctrl_c
    ) as pool:
        try:
            futures: list[Future[_Result]] = [pool.submit(do, scenario, job) for job in jobs]
            # Ctrl-C comes while this waits. In `concurrent.futures.wait` it can leave the futures locked: their pool
            # would wait for them, and this for the pool, for ever.
            ended = SimpleQueue[Future[_Result]]()
            for future in futures:
                future.add_done_callback(ended.put)
            for count in range(len(futures)):
                progress(what, count, len(futures))
                ended.get().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()  # a run may take minutes, and has nothing to tidy up
            raise
        return [future.result() for future in futures]


def _end_at_ctrl_c() -> None:
    """In a child: at once, and without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _here(
    do: Callable[..., _Result], scenario: Scenario, jobs: Sequence[_Job], what: str, progress: Progress
) -> Iterator[_Result]:
    """One after another. A long run tells of itself in between."""
    requests = scenario.load.requests
    for number, job in enumerate(jobs):
        before = number * requests
        progress(what, before, len(jobs) * requests)
        yield do(
            scenario,
            job,
            lambda count, before=before: progress(what, before + count, len(jobs) * requests),
        )
