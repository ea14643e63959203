"""CTranslate2 as an engine: decoder-only models."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ctranslate2

from headrace.contract.errors import StartError
from headrace.contract.values import Sampling
from headrace.contract.work import Device
from headrace.worker.engine import OnToken, check_prompts

_UNLOAD_POLL_S = 0.01
"""Between two tries to unload: the engine does nothing while it is still busy, and has no event to wait for."""


class CTranslate2Engine:
    """A `ctranslate2.Generator` with one replica per lane; the replicas share the weights."""

    def __init__(
        self,
        folder: Path,
        *,
        tokens: Sequence[str],
        end_ids: Sequence[int],
        device: Device,
        compute_type: str,
        lanes: int,
        threads_per_lane: int,
    ) -> None:
        """Loads the model in `folder`. `tokens` maps an id to the engine's string. Raises StartError."""
        self._tokens = tokens
        self._end_ids = list(end_ids)
        self._ends_suppressed = [[tokens[end]] for end in end_ids]
        try:
            self._generator: Any = ctranslate2.Generator(
                str(folder),
                device=device.kind,
                device_index=device.index,
                compute_type=compute_type,
                inter_threads=lanes,
                intra_threads=threads_per_lane,
                # Never full, as each lane has one batch at most; and so nothing waits in it either.
                max_queued_batches=lanes,
            )
        except (RuntimeError, ValueError, MemoryError) as error:
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StartError(
                f"the engine cannot load {folder} on {device.kind} as {compute_type}: {problem}",
                "Pull the model again, or choose another device or compute type",
            ) from error

    @property
    def compute_type(self) -> str:
        """What the weights are computed in, as the engine calls it."""
        return str(self._generator.compute_type)

    def run(
        self, prompts: Sequence[Sequence[int]], *, sampling: Sampling, max_new: int, on_token: OnToken
    ) -> None:
        check_prompts(prompts, len(self._tokens))
        tokens = self._tokens

        def on_step(result: Any) -> bool:
            return on_token(result.batch_id, result.token_id, result.step, result.is_last)

        self._generator.generate_batch(
            [[tokens[token] for token in prompt] for prompt in prompts],
            beam_size=1,  # the only one that calls back
            max_length=max_new,
            end_token=self._end_ids,
            suppress_sequences=self._ends_suppressed if sampling.ignore_end else None,
            include_prompt_in_result=False,  # the prompt is worked in at once, not token by token
            callback=on_step,
            **_options(sampling, len(tokens)),
        )

    def close(self) -> None:
        while self._generator.model_is_loaded:
            self._generator.unload_model()
            if self._generator.model_is_loaded:
                time.sleep(_UNLOAD_POLL_S)


def _options(sampling: Sampling, vocab_size: int) -> Mapping[str, object]:
    """`sampling` in the engine's words. Its own default of top-k is 1, with which it ignores all the rest."""
    options: dict[str, object] = {"repetition_penalty": sampling.repetition_penalty}
    if sampling.greedy:
        options["sampling_topk"] = 1
    else:
        options["sampling_topk"] = sampling.top_k if sampling.top_k < vocab_size else 0
        options["sampling_topp"] = sampling.top_p
        options["sampling_temperature"] = sampling.temperature
    return options
