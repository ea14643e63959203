"""CTranslate2 as an engine: decoder-only models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ctranslate2

from headrace.contract.values import Sampling
from headrace.contract.work import Device
from headrace.worker.ctranslate2_load import load, unload
from headrace.worker.engine import OnToken, check_prompts


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
        self._generator = load(
            ctranslate2.Generator,
            folder,
            device=device,
            compute_type=compute_type,
            lanes=lanes,
            threads_per_lane=threads_per_lane,
        )

    @property
    def compute_type(self) -> str:
        """What the weights are computed in, as the engine calls it."""
        return str(self._generator.compute_type)

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        check_prompts(prompts, len(self._tokens), static_tokens)
        tokens = self._tokens

        def on_step(result: Any) -> bool:
            return on_token(result.batch_id, result.token_id, result.step, result.is_last)

        self._generator.generate_batch(
            [[tokens[token] for token in prompt[static_tokens:]] for prompt in prompts],
            # Few: the router has a list of them. What the engine keeps, it keeps until it is closed.
            static_prompt=[tokens[token] for token in prompts[0][:static_tokens]] or None,
            cache_static_prompt=True,
            beam_size=1,  # the only one that calls back
            max_length=max_new,
            end_token=self._end_ids,
            suppress_sequences=self._ends_suppressed if sampling.ignore_end else None,
            include_prompt_in_result=False,  # the prompt is worked in at once, not token by token
            callback=on_step,
            **sampling_options(sampling, len(tokens)),
        )

    def close(self) -> None:
        unload(self._generator)


def sampling_options(sampling: Sampling, vocab_size: int) -> Mapping[str, object]:
    """`sampling` in the engine's words. Its own default of top-k is 1, with which it ignores all the rest."""
    options: dict[str, object] = {"repetition_penalty": sampling.repetition_penalty}
    if sampling.greedy:
        options["sampling_topk"] = 1
    else:
        options["sampling_topk"] = sampling.top_k if sampling.top_k < vocab_size else 0
        options["sampling_topp"] = sampling.top_p
        options["sampling_temperature"] = sampling.temperature
    return options
