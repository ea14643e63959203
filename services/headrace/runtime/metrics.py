"""What a process counts, and what it measures as it is and as it is distributed.

    metrics.tally(OUTCOMES).add("completed", "smollm2", "normal", "")
    metrics.histogram(QUEUE_WAIT).record(0.2, "smollm2", "normal", trace=record.trace)
    metrics.watch(HELD, lambda: {(): len(ledger)})

Tallies are always kept, and cost next to nothing. What is watched is read on the event loop, once a second while
somebody exports it and else when it is asked for; exporters, which have threads of their own, are given what was read
last. Distributions are recorded only where somebody exports them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.metrics import Histogram as OtelHistogram

from headrace.contract.values import NO_TRACE, TraceContext
from headrace.runtime.metric_names import Instrument, Kind
from headrace.runtime.propagation import as_parent
from headrace.runtime.tally import Fold, Labels, Tally

_NO_CONTEXT = Context()
_of = lru_cache(maxsize=64)(as_parent)  # a request's trace is asked for several times in a row

Read = Callable[[], Mapping[Labels, float]]
MAX_SERIES = 1_000
"""Combinations of names, where no setting says otherwise."""


class Histogram:
    """The distribution of one instrument; with no `inner`, nothing is recorded."""

    def __init__(self, instrument: Instrument, inner: OtelHistogram | None, limit: int) -> None:
        self._inner = inner
        self._attributes = _Attributes(instrument)
        self._fold = Fold(instrument, limit)

    @property
    def on(self) -> bool:
        """Whether a value is worth working out."""
        return self._inner is not None

    def record(self, value: float, *labels: str, trace: TraceContext = NO_TRACE) -> None:
        """Takes a value. Where `trace` is a sampled one, it may become the value's example."""
        if self._inner is not None:
            # With a context of its own in any case: whatever happens to be current here is not what was measured.
            context = _of(trace) if trace.traceparent else _NO_CONTEXT
            self._inner.record(value, self._attributes[self._fold(labels)], context=context)


class Watched:
    """One instrument that is read rather than counted.

    A series that was there once stays, at 0: a queue that is empty is no queue that nobody knows. `last` is written by
    `sample`, on the event loop, and never changed: other threads may read it.
    """

    def __init__(self, read: Read, fold: Fold, merge: Callable[[float, float], float]) -> None:
        self._read = read
        self._fold = fold
        self._merge = merge
        self.last: Mapping[Labels, float] = {}

    def sample(self) -> Mapping[Labels, float]:
        """Reads anew."""
        now: dict[Labels, float] = {}
        for labels, value in self._read().items():
            labels = self._fold(labels)
            now[labels] = self._merge(now[labels], value) if labels in now else value
        self.last = {**dict.fromkeys(self.last, 0.0), **now}
        return self.last


class Metrics:
    """The metrics of one process. Used on the event loop; each instrument is made once."""

    def __init__(
        self, meter: Meter | None = None, *, max_series: int = MAX_SERIES, address: str = ""
    ) -> None:
        """`meter` exports; None = nobody does. `address` is where Prometheus finds them, "" = nowhere."""
        self.address = address
        self._meter = meter
        self._max_series = max_series
        self._tallies: dict[Instrument, Tally] = {}
        self._watched: dict[Instrument, Watched] = {}
        self._histograms: dict[Instrument, Histogram] = {}

    @property
    def on(self) -> bool:
        """Whether somebody exports them."""
        return self._meter is not None

    def tally(self, instrument: Instrument) -> Tally:
        """The counts of an instrument; the same for whoever asks."""
        assert instrument.kind is Kind.COUNTER
        if (tally := self._tallies.get(instrument)) is None:
            tally = self._tallies[instrument] = Tally(instrument, self._max_series)
            self._observe(instrument, tally.values.copy)
        return tally

    def histogram(self, instrument: Instrument) -> Histogram:
        """The distribution of an instrument; the same for whoever asks."""
        assert instrument.kind is Kind.HISTOGRAM
        if (known := self._histograms.get(instrument)) is None:
            inner = None
            if self._meter is not None:
                inner = self._meter.create_histogram(
                    instrument.name,
                    instrument.unit,
                    instrument.about,
                    explicit_bucket_boundaries_advisory=instrument.buckets,
                )
            known = self._histograms[instrument] = Histogram(instrument, inner, self._max_series)
        return known

    def watch(
        self, instrument: Instrument, read: Read, *, merge: Callable[[float, float], float] = operator.add
    ) -> None:
        """Has a gauge, or a counter that something else counts, read by `read`: its values by label.

        `merge` makes one of two values where names are not told apart.
        """
        assert instrument not in self._watched, "an instrument is read in one place"
        watched = self._watched[instrument] = Watched(read, Fold(instrument, self._max_series), merge)
        self._observe(instrument, lambda: watched.last)

    def sample(self) -> None:
        """Reads everything that is watched, for the exporters."""
        for watched in self._watched.values():
            watched.sample()

    def values(self, instrument: Instrument) -> Mapping[Labels, float]:
        """The counts of a tally, or what is watched as it is now; for whoever shows them in this process."""
        if (tally := self._tallies.get(instrument)) is not None:
            return tally.values
        watched = self._watched.get(instrument)
        return {} if watched is None else watched.sample()

    def _observe(self, instrument: Instrument, read: Read) -> None:
        """Exports what `read` gives, which is called in exporters' threads."""
        if self._meter is None:
            return
        attributes = _Attributes(instrument)

        def observe(options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, attributes[labels]) for labels, value in read().items()]

        counts = instrument.kind is Kind.COUNTER
        create: Any = self._meter.create_observable_counter if counts else self._meter.create_observable_gauge
        create(instrument.name, [observe], instrument.unit, instrument.about)

    def __iter__(self) -> Iterator[Instrument]:
        """The instruments that this process has made."""
        return iter((*self._tallies, *self._watched, *self._histograms))


class _Attributes(dict[Labels, dict[str, str]]):
    """Label values as attributes, made once for each combination; without those that are empty."""

    def __init__(self, instrument: Instrument) -> None:
        super().__init__()
        self._labels = instrument.labels

    def __missing__(self, labels: Labels) -> dict[str, str]:
        made = {name: value for name, value in zip(self._labels, labels, strict=True) if value}
        self[labels] = made
        return made
