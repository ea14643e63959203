"""What the worker counts and measures. Once per batch; of a step only how many tokens it made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from headrace.contract.errors import EngineFailed
from headrace.runtime import metric_names as names
from headrace.runtime.metrics import Metrics
from headrace.worker.embedding import Done
from headrace.worker.lockstep import Way, spent
from headrace.worker.outbox import Outbox

_OUTPUT: Final = "output"
_PADDING: Final = "padding"
_ENDED: Final = "ended"
_TEXT: Final = "text"


class WorkerMetrics:
    """Records what happens at the worker. Used on the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._tokens = metrics.tally(names.WORKER_TOKENS)
        self._entry_steps = metrics.tally(names.ENTRY_STEPS)
        self._steps = metrics.tally(names.WORKER_STEPS)
        self._texts = metrics.tally(names.WORKER_TEXTS)
        self._text_places = metrics.tally(names.TEXT_PLACES)
        self._duration = metrics.histogram(names.BATCH_DURATION)
        self._joins = metrics.tally(names.JOINS)

    def joined(self) -> None:
        """A router has answered a join."""
        self._joins.add()

    def made(self, model: str, tokens: int) -> None:
        """A step made so many."""
        self._tokens.add(model, by=tokens)

    def ended(self, model: str, ways: Iterable[Way], began_s: float, failure: EngineFailed | None) -> None:
        """A batch that came to its lane at `began_s` of the monotonic clock has ended."""
        self._duration.record(time.monotonic() - began_s, model, "" if failure is None else failure.code)
        use = spent(ways)
        self._steps.add(model, by=use.steps)
        for name, count in ((_OUTPUT, use.output), (_PADDING, use.padding), (_ENDED, use.ended)):
            if count:
                self._entry_steps.add(model, name, by=count)

    def embedded(self, model: str, done: Done, began_s: float, failure: EngineFailed | None) -> None:
        """The same of a batch of texts."""
        self._duration.record(time.monotonic() - began_s, model, "" if failure is None else failure.code)
        self._texts.add(model, by=done.texts)
        for name, count in ((_TEXT, done.tokens), (_PADDING, done.padding)):
            if count:
                self._text_places.add(model, name, by=count)


def watch_worker(
    metrics: Metrics, *, lanes: int, busy: Callable[[], tuple[int, int]], outbox: Outbox
) -> None:
    """Has the lanes read; `busy` gives how many have a batch, and how many of these are paused."""

    def read() -> dict[tuple[str, ...], float]:
        taken, paused = busy()
        return {("running",): taken - paused, ("paused",): paused, ("free",): lanes - taken}

    metrics.watch(names.WORKER_LANES, read)
    metrics.watch(names.PENDING, lambda: {(): len(outbox)})
