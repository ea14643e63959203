"""A model without weights: for load tests, chaos tests and benchmarks of all that is around the engine.

Never for answers: the worker's fake engine makes its output up. Its tokens are the 256 bytes (id = byte) and the two
control tokens of ChatML; its timing stands in `engine.json`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from headrace.models.errors import DamagedModel
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore, StoredModel
from headrace.models.token_bytes import byte_alphabet
from headrace.models.tokeniser import TOKENISER_NAME

FAKE_ENGINE_NAME = "engine.json"

_START, _END = "<|im_start|>", "<|im_end|>"
_START_ID, _END_ID = 256, 257
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeTiming:
    """How long the fake engine takes, in seconds, and how often it fails. All zero: as fast as it can, and never."""

    step_s: float = 0.0
    """For each decode step of a batch."""
    step_s_per_entry: float = 0.0
    """More for each decode step and entry of the batch."""
    prefill_s_per_token: float = 0.0
    """For each prompt token of the batch, before its first step."""
    misjudged_s_per_token: float = 0.0
    """For each prompt token by which a prompt is longer than the shortest of its batch, before the first step; not told
    as a cost: of an engine that is slower than what was measured."""
    load_s: float = 0.0
    """To load the model."""
    failing: float = 0.0
    """Of its batches, how many fail before their first token: with 0.5 every second one, as of a bad version."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value < 3600:
                raise ValueError(f"{name} must be between 0 and 3600 seconds")
        if self.failing > 1:
            raise ValueError("failing is a part, at most 1")


def install_fake_model(
    store: ModelStore,
    name: str = "fake",
    context_length: int = 4096,
    timing: FakeTiming | None = None,
    task: Literal["generate", "embed"] = "generate",
) -> StoredModel:
    """Puts a fake model into the store, in the place of any former one of that name."""

    def build(folder: Path) -> Manifest:
        tokenizer = _byte_tokenizer()
        tokenizer.save(str(folder / TOKENISER_NAME))
        (folder / FAKE_ENGINE_NAME).write_text(
            json.dumps(dataclasses.asdict(timing or FakeTiming()), indent=2) + "\n"
        )
        return Manifest(
            name=name,
            task=task,
            pooling="mean" if task == "embed" else None,
            normalise=task == "embed",
            engine="fake",
            architecture="fake",
            context_length=context_length,
            vocab_size=tokenizer.get_vocab_size(with_added_tokens=True),
            end_token_ids=(_END_ID,),
            end_tokens=(_END,),
            chat_template=_CHATML,
            quantisation="none",
            parameters=0,
            source="headrace",
            licence="Apache-2.0",
        )

    return store.install(name, build)


def read_fake_timing(model: StoredModel) -> FakeTiming:
    """The timing of a fake model. Raises DamagedModel."""
    try:
        return FakeTiming(**json.loads((model.path / FAKE_ENGINE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DamagedModel(model.name, FAKE_ENGINE_NAME, "missing or not a timing") from error


def _byte_tokenizer() -> Tokenizer:
    vocabulary = {**byte_alphabet(), _START: _START_ID, _END: _END_ID}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (_START, _END)]
    )
    return tokenizer
