"""A process that plays a load: `python -m headrace.bench.driver_process JOB RESULT`.

Warms up, says that it is ready, waits for the word to go, plays, says that it is done, and writes its records.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop
from pydantic import TypeAdapter

from headrace.bench.child_job import answer
from headrace.bench.driver import Driver, ToSend
from headrace.bench.record import Record
from headrace.client.client import HeadraceClient

_TELL_S = 0.2
"""Between two words about the progress."""
_WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverJob:
    """What one driver process is to do."""

    address: str
    model: str
    clients: int
    """Consumers of a closed loop; 0 = an open loop."""
    requests: list[ToSend]
    warm_up: int
    """Requests before the measurement, with short outputs, all at once."""
    duration_s: float | None
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverResult:
    """What came of it. `cpu_s` counts from the word to go."""

    records: list[Record]
    cpu_s: float
    peak_bytes: int


JOB = TypeAdapter(DriverJob)
RESULT = TypeAdapter(DriverResult)


async def drive(job: DriverJob) -> DriverResult:
    """Does the job, in step with the parent."""
    told_s = 0.0

    def ended(record: Record) -> None:
        nonlocal told_s
        if (now_s := time.monotonic()) - told_s >= _TELL_S:
            told_s = now_s
            answer(done=len(driver.records))

    async with HeadraceClient(job.address) as client:
        driver = Driver(client, job.model, timeout_s=job.timeout_s, ended=lambda record: None)
        await _warm_up(driver, job)
        driver = Driver(client, job.model, timeout_s=job.timeout_s, ended=ended)
        answer(ready=True)
        start_s = float(json.loads(await asyncio.to_thread(sys.stdin.readline))["start_s"])
        await asyncio.sleep(max(0.0, start_s - time.monotonic()))
        cpu_s = time.process_time()
        if job.clients:
            until_s = None if job.duration_s is None else start_s + job.duration_s
            await driver.closed(job.requests, job.clients, until_s)
        else:
            await driver.open(job.requests, start_s)
        cpu_s = time.process_time() - cpu_s
    answer(done=len(driver.records), ended=True)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return DriverResult(records=driver.records, cpu_s=cpu_s, peak_bytes=peak_bytes)


async def _warm_up(driver: Driver, job: DriverJob) -> None:
    """Opens the connection, and has every part do once what it does later. Raises RuntimeError where it fails."""
    short = [
        replace(request, output_tokens=min(request.output_tokens, _WARM_UP_TOKENS))
        for request in job.requests[: job.warm_up]
    ]
    await asyncio.gather(*(driver.play(request) for request in short))
    if errors := {record.error for record in driver.records if record.error}:
        raise RuntimeError(f"the warm-up failed: {', '.join(sorted(errors))}")


def main() -> None:
    job_path, result_path = map(Path, sys.argv[1:3])
    job = JOB.validate_json(job_path.read_bytes())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(drive(job))
    result_path.write_bytes(RESULT.dump_json(result))
    answer(written=True)


if __name__ == "__main__":
    main()
