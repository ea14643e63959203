"""Counts by labels in plain memory, and the bound on how many labels there may be."""

from __future__ import annotations

from headrace.runtime.metric_names import OTHER, Instrument

Labels = tuple[str, ...]
"""A value for each label of an instrument, in its order; "" = none."""


class Fold:
    """Lets the first `limit` combinations of names through, and makes `other` of all that come later.

    Only the labels that an instrument declares as names count: of the rest there are few, whatever callers do. The
    combinations stay for the life of the process, as a counter that went back to 0 would look like a restart.
    """

    def __init__(self, instrument: Instrument, limit: int) -> None:
        self._places = tuple(instrument.labels.index(name) for name in instrument.names)
        self._limit = limit
        self._known: set[Labels] = set()

    def __call__(self, labels: Labels) -> Labels:
        """`labels`, or the same with `other` for its names."""
        if not self._places:
            return labels
        combination = tuple(labels[place] for place in self._places)
        if combination in self._known:
            return labels
        if len(self._known) < self._limit:
            self._known.add(combination)
            return labels
        return tuple(OTHER if place in self._places else value for place, value in enumerate(labels))


class Tally:
    """The counts of one instrument. Kept whether anybody looks or not: adding costs a tenth of a microsecond.

    `values` has one writer, the event loop; whoever reads it in another thread takes a copy. It begins with a 0 without
    labels: Prometheus sees the first count of anything as a rise over that, and not as a series that was there before.
    """

    def __init__(self, instrument: Instrument, limit: int) -> None:
        self.instrument = instrument
        self.values: dict[Labels, float] = {("",) * len(instrument.labels): 0}
        self._fold = Fold(instrument, limit)

    def __repr__(self) -> str:
        return f"<Tally {self.instrument.name}: {self.values}>"

    def add(self, *labels: str, by: float = 1) -> None:
        """Counts `by` more."""
        values = self.values
        if labels not in values:
            assert len(labels) == len(self.instrument.labels), "a value for each label"
            labels = self._fold(labels)
        values[labels] = values.get(labels, 0) + by
