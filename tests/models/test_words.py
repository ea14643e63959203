"""Whether what was tokenised for one version can be run by another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.models.manifest import FileEntry, Manifest
from headrace.models.words import words_digest
from tests.models.test_manifest import MANIFEST

FILES = {
    "model.bin": FileEntry(sha256="11" * 32, size=1),
    "tokenizer.json": FileEntry(sha256="22" * 32, size=2),
}
ENCODER = replace(MANIFEST, task="embed", source_prefix=("[CLS]",), source_suffix=("[SEP]",)).sealed(FILES)


def test_other_weights_are_no_other_words() -> None:
    """Nor is another number format, or another way to make one vector of many."""
    others = {**FILES, "model.bin": FileEntry(sha256="33" * 32, size=3)}
    same = replace(ENCODER, quantisation="float32", pooling="mean").sealed(others)
    assert same.version != ENCODER.version
    assert words_digest(same) == words_digest(ENCODER)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "generate"},
        {"source_prefix": ("[CLS]", "query:")},
        {"source_suffix": ()},
        {"target_prefix": ("</s>",)},
        {"languages": {"fra": "__fra__"}},
        {"context_length": 64},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_goes_around_a_text_is_part_of_the_words(changes: dict[str, Any]) -> None:
    """And what the model is for: its tokens would be run as what they are not."""
    other: Manifest = replace(ENCODER, **changes)
    assert words_digest(other) != words_digest(ENCODER)
