"""How fast this worker's models run, from the batches that ended: for people to see."""

from __future__ import annotations

from headrace.contract.work import ServedModel

_WEIGHT = 0.2
"""Of one batch: an old load is forgotten within some ten batches."""


class Speeds:
    """Tokens a second of a lane, by model and version. Prefill and pauses count."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str], float] = {}

    def ran(self, model: ServedModel, tokens: int, seconds: float) -> None:
        """A batch ended, which made so many tokens; of texts to embed, worked so many in."""
        if not tokens or seconds <= 0:
            return
        seen, key = tokens / seconds, (model.name, model.version)
        old = self._rates.get(key, seen)
        self._rates[key] = old + _WEIGHT * (seen - old)

    def of(self, reference: str, version: str) -> float:
        """0 where it has not run."""
        return self._rates.get((reference, version), 0.0)

    def forget(self, reference: str, version: str) -> None:
        self._rates.pop((reference, version), None)
