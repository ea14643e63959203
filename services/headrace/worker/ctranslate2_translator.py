"""CTranslate2 as an engine that translates: encoder-decoder models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2

from headrace.contract.values import Sampling
from headrace.contract.work import Device
from headrace.worker.ctranslate2_engine import sampling_options
from headrace.worker.ctranslate2_load import load, unload
from headrace.worker.engine import OnToken
from headrace.worker.translator import check_sources

_ANY_LENGTH = 0
"""The engine would cut a long source without a word; the router has checked it."""


class CTranslate2Translator:
    """A `ctranslate2.Translator` with one replica per lane; the replicas share the weights. Source and target have one
    vocabulary.
    """

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
        self._ids = {token: number for number, token in enumerate(tokens)}
        self._end_ids = list(end_ids)
        self._ends_suppressed = [[tokens[end]] for end in end_ids]
        self._translator = load(
            ctranslate2.Translator,
            folder,
            device=device,
            compute_type=compute_type,
            lanes=lanes,
            threads_per_lane=threads_per_lane,
        )

    @property
    def compute_type(self) -> str:
        """What the weights are computed in, as the engine calls it."""
        return str(self._translator.compute_type)

    def translate(
        self,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        check_sources(sources, prefixes, len(self._tokens))
        given = [len(prefix) for prefix in prefixes]
        shortest = min(given)

        def on_step(result: Any) -> bool:
            # The engine makes the prefix token by token, too, and calls back for each.
            if result.step < given[result.batch_id]:
                return False
            return on_token(result.batch_id, result.token_id, result.step - shortest, result.is_last)

        self._translate(
            sources,
            prefixes,
            sampling,
            beam_size=1,  # the only one that calls back
            max_decoding_length=shortest + max_new,
            callback=on_step,
            **sampling_options(sampling, len(self._tokens)),
        )

    def search(
        self,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
    ) -> list[list[int]]:
        check_sources(sources, prefixes, len(self._tokens))
        if len({len(prefix) for prefix in prefixes}) > 1:
            raise ValueError("prefixes of one search are equally long: its length counts them")
        results = self._translate(
            sources,
            prefixes,
            sampling,
            beam_size=sampling.beam_size,
            max_decoding_length=len(prefixes[0]) + max_new,
            return_end_token=True,
            repetition_penalty=sampling.repetition_penalty,
        )
        return [
            [self._ids[token] for token in result.hypotheses[0][len(prefix) :]]
            for result, prefix in zip(results, prefixes, strict=True)
        ]

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        """Without prefixes, as an `Engine` whose entries all begin in the first step: so it is measured like one."""
        self.translate(prompts, [()] * len(prompts), sampling=sampling, max_new=max_new, on_token=on_token)

    def close(self) -> None:
        unload(self._translator)

    def _translate(
        self,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        sampling: Sampling,
        **options: Any,
    ) -> Any:
        return self._translator.translate_batch(
            [[self._tokens[token] for token in source] for source in sources],
            [[self._tokens[token] for token in prefix] for prefix in prefixes],
            max_input_length=_ANY_LENGTH,
            end_token=self._end_ids,
            suppress_sequences=self._ends_suppressed if sampling.ignore_end else None,
            **options,
        )
