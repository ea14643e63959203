"""An encoder without a model, for tests and benchmarks of everything around the engine.

A vector is a function of its text's tokens alone. Tokens of a text command it, as in `fake_engine`: 0x00 fails the
batch, 0x02 ends the process.
"""

from __future__ import annotations

import os
import time
import zlib
from array import array
from collections.abc import Sequence

import numpy as np

from headrace.contract.values import Vector
from headrace.models.fake import FakeTiming
from headrace.worker.encoder import check_texts
from headrace.worker.fake_engine import CRASH, CRASH_EXIT, FAIL_AT_ONCE

DIMENSIONS = 64


class FakeEncoder:
    """Takes the time that `timing` says for a prefill of the texts, padded to the longest, and computes nothing."""

    def __init__(self, timing: FakeTiming, *, vocab_size: int) -> None:
        self._timing = timing
        self._vocab_size = vocab_size
        time.sleep(timing.load_s)

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        check_texts(texts, self._vocab_size)
        if any(CRASH in text for text in texts):
            os._exit(CRASH_EXIT)
        if any(FAIL_AT_ONCE in text for text in texts):
            raise RuntimeError("the fake engine was told to fail")
        time.sleep(self._timing.prefill_s_per_token * max(map(len, texts)) * len(texts))
        return [_vector(text) for text in texts]

    def close(self) -> None:
        pass


def _vector(text: Sequence[int]) -> Vector:
    """Of length 1."""
    numbers = np.random.default_rng(zlib.crc32(array("I", text).tobytes())).normal(size=DIMENSIONS)
    return (numbers / np.linalg.norm(numbers)).astype("<f4").tobytes()
