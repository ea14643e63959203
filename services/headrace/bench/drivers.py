"""The driver processes of one phase, from the parent's side: started together, and gone together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from headrace.bench.child_job import ChildJob
from headrace.bench.driver import ToSend
from headrace.bench.driver_process import JOB, RESULT, DriverJob, DriverResult
from headrace.bench.record import Record
from headrace.bench.usage import Usage, UsageMeter, usage_of

_LEAD_S = 0.05
"""From the word to go to the start: it has to reach every process before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """What the drivers of a phase saw, and used themselves."""

    records: list[Record]
    usage: Usage
    """Of all driver processes together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """How a load is played."""

    address: str
    model: str
    clients: int
    """0 = an open loop."""
    warm_up: int
    duration_s: float | None
    timeout_s: float
    processes: int


async def drive(
    how: Drive,
    requests: Sequence[ToSend],
    meter: UsageMeter,
    folder: Path,
    progress: Callable[[int], None],
) -> Driven:
    """Plays `requests` and measures the mesh with `meter` meanwhile. `progress` is told how many have ended.

    Raises ChildFailed.
    """
    jobs = _split(how, requests)
    async with AsyncExitStack() as stack:
        children = []
        for number, job in enumerate(jobs):
            paths = folder / f"drive-{number}.json", folder / f"driven-{number}.json"
            paths[0].write_bytes(JOB.dump_json(job))
            child = ChildJob("headrace.bench.driver_process", *map(str, paths))
            children.append(await stack.enter_async_context(child))
        for child in children:
            await child.hear()  # ready
        start_s = time.monotonic() + _LEAD_S
        meter.start()
        for child in children:
            await child.say(start_s=start_s)
        done = [0] * len(children)

        async def follow(number: int) -> None:
            while True:
                heard = await children[number].hear()
                done[number] = heard["done"]
                progress(sum(done))
                if heard.get("ended"):
                    return

        async with asyncio.TaskGroup() as group:
            for number in range(len(children)):
                group.create_task(follow(number))
        meter.stop()
        for child in children:
            await child.hear()  # written
        results = [
            RESULT.validate_json((folder / f"driven-{number}.json").read_bytes())
            for number in range(len(jobs))
        ]
    return _joined(results)


def _split(how: Drive, requests: Sequence[ToSend]) -> list[DriverJob]:
    """One job per process: every n-th request, and its share of the clients."""
    count = min(how.processes, how.clients or how.processes, len(requests))
    return [
        DriverJob(
            address=how.address,
            model=how.model,
            clients=len(range(number, how.clients, count)),
            requests=list(requests[number::count]),
            warm_up=-(-how.warm_up // count),
            duration_s=how.duration_s,
            timeout_s=how.timeout_s,
        )
        for number in range(count)
    ]


def _joined(results: Sequence[DriverResult]) -> Driven:
    records = [record for result in results for record in result.records]
    usage = usage_of(
        sum(result.cpu_s for result in results),
        sum(result.peak_bytes for result in results),
        sum(record.tokens for record in records),
    )
    return Driven(records=sorted(records, key=lambda record: record.sent_s), usage=usage)
