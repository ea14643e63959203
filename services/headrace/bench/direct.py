"""The same requests on the engine with nothing around it: what a mesh can be measured against.

- First come, first served: each lane takes the next request, alone, as soon as it is free.
- Sorted: all requests are known beforehand, sorted by the length of their prompts and cut into batches of one size.
  No server can do that with requests that come one by one: it is what grouping could reach at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headrace.bench.record import Record
from headrace.contract.values import Sampling
from headrace.worker.engine import Engine

EXACT = Sampling(ignore_end=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenised:
    """A request as the engine takes it."""

    index: int
    token_ids: Sequence[int]
    output_tokens: int
    arrival_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """How the requests are put to the engine."""

    lanes: int
    """Threads that run batches side by side."""
    batch: int
    by_length: bool
    """Sorted; otherwise in their order, first come first served."""
    open_loop: bool
    """No request is begun before its arrival time."""
    clients: int
    """As many are under way or waiting at once, as far as times are counted; 0 = all that have arrived."""


def run_direct(
    engine: Engine, requests: Sequence[Tokenised], how: Runs, ended: Callable[[int], None]
) -> list[Record]:
    """Runs all requests and gives their records; `ended` is told how many have. Blocks. Raises what the engine does."""
    batches = _batches(requests, how)
    play = _Play(engine, batches, how, ended)
    threads = [threading.Thread(target=play.work, name=f"direct-{lane}") for lane in range(how.lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if play.error is not None:
        raise play.error
    return play.records


def _batches(requests: Sequence[Tokenised], how: Runs) -> list[Sequence[Tokenised]]:
    """The longest ones first where they are sorted: a long batch at the end would leave the other lanes idle."""
    if how.by_length:
        requests = sorted(requests, key=lambda one: (len(one.token_ids), one.output_tokens), reverse=True)
    return [requests[at : at + how.batch] for at in range(0, len(requests), how.batch)]


class _Play:
    """One run. Writers of all fields: the threads in `work`, under `_lock`."""

    def __init__(
        self,
        engine: Engine,
        batches: Sequence[Sequence[Tokenised]],
        how: Runs,
        ended: Callable[[int], None],
    ) -> None:
        self._engine = engine
        self._batches: Iterator[Sequence[Tokenised]] = iter(batches)
        self._how = how
        self._ended = ended
        self._lock = threading.Lock()
        self._start_s = time.monotonic()
        self._taken = 0
        self._ends_s: list[float] = []
        self.records: list[Record] = []
        self.error: Exception | None = None

    def work(self) -> None:
        """A lane: takes batches until there are none."""
        try:
            while (taken := self._take()) is not None:
                self._run(*taken)
        except Exception as error:
            self.error = error

    def _take(self) -> tuple[Sequence[Tokenised], list[Record]] | None:
        with self._lock:
            batch = None if self.error else next(self._batches, None)
            if batch is None:
                return None
            records = [Record(index=one.index, sent_s=self._sent_s(one, at)) for at, one in enumerate(batch)]
            self._taken += len(batch)
        if self._how.open_loop:
            time.sleep(max(0.0, max(record.sent_s for record in records) - time.monotonic()))
        return batch, records

    def _sent_s(self, one: Tokenised, at: int) -> float:
        """When a closed loop of `clients` would have sent it: when the request `clients` before it had ended."""
        if self._how.open_loop:
            return self._start_s + one.arrival_s
        earlier = self._taken + at - self._how.clients
        return (
            self._ends_s[earlier] if self._how.clients and 0 <= earlier < len(self._ends_s) else self._start_s
        )

    def _run(self, batch: Sequence[Tokenised], records: Sequence[Record]) -> None:
        wanted = [one.output_tokens for one in batch]
        shortest = min(len(one.token_ids) for one in batch)

        def on_token(entry: int, token_id: int, step: int, last: bool) -> bool:
            record = records[entry]
            record.take(record.tokens, 1, time.monotonic())
            if record.tokens < wanted[entry]:
                return False
            record.ended_s = record.last_s
            return True

        self._engine.run(
            [one.token_ids for one in batch],
            sampling=EXACT,
            max_new=max(len(one.token_ids) - shortest + one.output_tokens for one in batch),
            on_token=on_token,
        )
        with self._lock:
            self.records.extend(records)
            self._ends_s.extend(record.ended_s for record in records)
            self._ends_s.sort()
            self._ended(len(self.records))
