"""A process that holds an engine and nothing else: `python -m headrace.bench.direct_process JOB RESULT`.

Loads the model, says that it is ready, then does one run per line that it is given: `Runs` and the requests' indices.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from headrace.bench.child_job import answer
from headrace.bench.direct import Runs, Tokenised, run_direct
from headrace.bench.driver import ToSend
from headrace.bench.record import Record
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from headrace.worker.device import EngineInventory, find_device
from headrace.worker.engine import Engine
from headrace.worker.serving import Placing, load_model

_TELL_S = 0.2
"""Between two words about the progress."""
_WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectJob:
    """The model, how to load it, and all requests of a phase."""

    store: Path
    model: str
    device: str
    compute_type: str
    lanes: int
    threads_per_lane: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectResult:
    """What came of one run."""

    records: list[Record]
    cpu_s: float
    peak_bytes: int


JOB = TypeAdapter(DirectJob)
REQUESTS = TypeAdapter(list[ToSend])
RUNS = TypeAdapter(Runs)
RESULT = TypeAdapter(DirectResult)


def load(job: DirectJob) -> tuple[Engine, Tokeniser]:
    """The engine as a worker of the same settings would have it."""
    store = ModelStore(job.store)
    placing = Placing(
        device=find_device(job.device, EngineInventory()),
        compute_type=job.compute_type,
        lanes=job.lanes,
        threads_per_lane=job.threads_per_lane,
    )
    return load_model(store, job.model, placing).engine, Tokeniser.load(store.open(job.model))


def do(engine: Engine, requests: Sequence[Tokenised], how: Runs) -> DirectResult:
    """One run, after a warm-up of every lane."""
    short = [
        Tokenised(index=one.index, token_ids=one.token_ids, output_tokens=_WARM_UP_TOKENS, arrival_s=0.0)
        for one in requests[: how.lanes]
    ]
    plain = Runs(lanes=how.lanes, batch=1, by_length=False, open_loop=False, clients=0)
    run_direct(engine, short, plain, lambda done: None)
    told_s = 0.0

    def ended(done: int) -> None:
        nonlocal told_s
        if (now_s := time.monotonic()) - told_s >= _TELL_S:
            told_s = now_s
            answer(done=done)

    cpu_s = time.process_time()
    records = run_direct(engine, requests, how, ended)
    cpu_s = time.process_time() - cpu_s
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return DirectResult(records=records, cpu_s=cpu_s, peak_bytes=peak_bytes)


def main() -> None:
    engine, tokeniser = load(JOB.validate_json(Path(sys.argv[1]).read_bytes()))
    try:
        answer(ready=True)
        for line in sys.stdin:
            message: dict[str, Any] = json.loads(line)
            requests = [
                Tokenised(
                    index=one.index,
                    token_ids=tokeniser.encode_prompt(one.prompt),
                    output_tokens=one.output_tokens,
                    arrival_s=one.arrival_s,
                )
                for one in REQUESTS.validate_json(Path(message["requests"]).read_bytes())
            ]
            result = do(engine, requests, RUNS.validate_python(message["how"]))
            Path(message["result"]).write_bytes(RESULT.dump_json(result))
            answer(done=len(requests), ended=True)
    finally:
        engine.close()  # an engine that is still loaded aborts the process at its end


if __name__ == "__main__":
    main()
