"""An engine without a model, for tests and benchmarks of everything around the engine.

Its tokens are bytes: letters, blanks and now and then the two bytes of "é", so that characters cross token borders.
The next token is a function of all tokens before it, so a resumed entry goes on as it would have; with a temperature,
each run is a new draw, as a sampling engine's is. Bytes in a prompt command it:

    0x00   the batch fails before its first token
    0x01   the batch fails after a few steps
    0x02   the process ends after a few steps, as by a fault of the engine
    0x04   this entry ends by itself within some tens of tokens; without it only `max_new` ends one

Batches fail as often as its timing says. Otherwise it keeps the rules of the real engine, those of mixed prompt lengths
too.
"""

from __future__ import annotations

import itertools
import os
import random
import time
import zlib
from array import array
from collections.abc import Sequence

from headrace.contract.values import Sampling
from headrace.models.fake import FakeTiming
from headrace.worker.engine import OnToken, check_prompts

FAIL_AT_ONCE, FAIL_LATER, CRASH, END_SOON = 0x00, 0x01, 0x02, 0x04
FAILING_STEP = 4
"""The step in which FAIL_LATER and CRASH strike."""
CRASH_EXIT = 86
"""The exit code of CRASH."""
_CATCHES_UP_S = 0.1
"""A step that comes late has the next ones come sooner, as far as this: what is later was paused."""

_FIRST_BYTE, _SECOND_BYTE = 0xC3, 0xA9
_LETTERS: tuple[int, ...] = (*b"etaoinshrdlcumwfgypbvk      ", _FIRST_BYTE)
_END_ODDS = 16


class FakeEngine:
    """Takes the time that `timing` says and computes nothing. Holds a count alone: as many lanes as one likes."""

    def __init__(self, timing: FakeTiming, *, vocab_size: int, end_id: int) -> None:
        self._timing = timing
        self._vocab_size = vocab_size
        self._end_id = end_id
        self._batches = itertools.count(1)
        time.sleep(timing.load_s)

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        check_prompts(prompts, self._vocab_size, static_tokens)
        number, share = next(self._batches), self._timing.failing
        unlucky = int(number * share) > int((number - 1) * share)
        if unlucky or any(FAIL_AT_ONCE in prompt for prompt in prompts):
            raise RuntimeError("the fake engine was told to fail")
        shortest = min(map(len, prompts))
        entries = [
            _FakeEntry(index, prompt, len(prompt) - shortest, self._end_id, sampling)
            for index, prompt in enumerate(prompts)
        ]
        failing = any(FAIL_LATER in prompt for prompt in prompts)
        crashing = any(CRASH in prompt for prompt in prompts)
        prefill_s = self._timing.prefill_s_per_token * (shortest - 1) * len(prompts)
        prefill_s += self._timing.misjudged_s_per_token * sum(len(prompt) - shortest for prompt in prompts)
        due = time.perf_counter() + prefill_s
        for step in range(max_new):
            if not entries:
                return
            due += self._timing.step_s + self._timing.step_s_per_entry * len(entries)
            # Sleeping also lets other threads run, as the real engine does between two callbacks.
            now = time.perf_counter()
            time.sleep(max(0.0, due - now))
            due = max(due, now - _CATCHES_UP_S)
            if crashing and step == FAILING_STEP:
                os._exit(CRASH_EXIT)
            if failing and step == FAILING_STEP:
                raise RuntimeError("the fake engine was told to fail")
            entries = [entry for entry in entries if entry.starts_at > step or not entry.make(step, on_token)]

    def close(self) -> None:
        pass


class _FakeEntry:
    """One sequence as it grows. `state` stands for all its tokens so far."""

    __slots__ = ("_end_id", "_ends", "_index", "_last", "_state", "starts_at")

    def __init__(
        self, index: int, prompt: Sequence[int], starts_at: int, end_id: int, sampling: Sampling
    ) -> None:
        self._index = index
        self._state = zlib.crc32(array("I", prompt).tobytes())
        if not sampling.greedy:
            self._state ^= random.getrandbits(32)
        self._last = prompt[-1]
        self._end_id = end_id
        self._ends = END_SOON in prompt and not sampling.ignore_end
        self.starts_at = starts_at

    def make(self, step: int, on_token: OnToken) -> bool:
        """Makes the next token. Returns whether the entry has ended."""
        token = self._next()
        self._last = token
        self._state = zlib.crc32(token.to_bytes(4, "little"), self._state)
        last = token == self._end_id
        return on_token(self._index, token, step, last) or last

    def _next(self) -> int:
        if self._last == _FIRST_BYTE:
            return _SECOND_BYTE
        if self._ends and (self._state >> 16) % _END_ODDS == 0:
            return self._end_id
        return _LETTERS[self._state % len(_LETTERS)]
