"""CTranslate2 as an engine that embeds: encoder-only models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt

from headrace.contract.values import Vector
from headrace.contract.work import Device
from headrace.models.manifest import Pooling
from headrace.worker.ctranslate2_load import load, unload
from headrace.worker.encoder import check_texts

Hidden = npt.NDArray[np.float32]
"""(tokens of a text, dimensions)"""

_POOLS: dict[Pooling, Callable[[Hidden], npt.NDArray[np.float32]]] = {
    "mean": lambda hidden: hidden.mean(axis=0, dtype=np.float32),
    "first": lambda hidden: hidden[0],
    "last": lambda hidden: hidden[-1],
    "max": lambda hidden: hidden.max(axis=0),
}
_LEAST_LENGTH = 1e-12
"""Of a vector that is scaled: one of nothing but zeros stays as it is."""


class CTranslate2Encoder:
    """A `ctranslate2.Encoder` with one replica per lane; the replicas share the weights."""

    def __init__(
        self,
        folder: Path,
        *,
        vocab_size: int,
        pooling: Pooling,
        normalise: bool,
        device: Device,
        compute_type: str,
        lanes: int,
        threads_per_lane: int,
    ) -> None:
        """Loads the model in `folder`. Raises StartError."""
        self._vocab_size = vocab_size
        self._pool = _POOLS[pooling]
        self._normalise = normalise
        self._encoder = load(
            ctranslate2.Encoder,
            folder,
            device=device,
            compute_type=compute_type,
            lanes=lanes,
            threads_per_lane=threads_per_lane,
        )

    @property
    def compute_type(self) -> str:
        """What the weights are computed in, as the engine calls it."""
        return str(self._encoder.compute_type)

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        check_texts(texts, self._vocab_size)
        output = self._encoder.forward_batch([list(text) for text in texts])
        hidden = _on_host(output.last_hidden_state)
        pooled = np.stack([self._pool(hidden[i, : len(text)]) for i, text in enumerate(texts)])
        if self._normalise:
            pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), _LEAST_LENGTH)
        return [row.tobytes() for row in pooled.astype("<f4", copy=False)]

    def close(self) -> None:
        unload(self._encoder)


def _on_host(view: Any) -> npt.NDArray[np.float32]:
    """(texts, tokens of the longest, dimensions), in 32-bit floats wherever and however they were computed."""
    view = view.to(ctranslate2.DataType.float32)
    if view.device != "cpu":
        view = view.to_device(ctranslate2.Device.cpu)
    return np.asarray(view)
