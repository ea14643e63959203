"""The real MiniLM: pulled from its package, its tokens and vectors are those of the model's own library."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.contract.work import Device
from headrace.models.framing import Framing
from headrace.models.store import StoredModel
from headrace.models.tokeniser import Tokeniser
from headrace.worker.serving import Placing, ServingModel, load_model

pytestmark = pytest.mark.integration

REFERENCE: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("minilm_reference.json").read_text(encoding="utf-8")
)
NEAR = 2e-6
PUBLISHED = {
    "This is an example sentence": (0.0676569, 0.0634960, 0.0487131, 0.0793050),
    "Each sentence is converted": (0.0864386, 0.1027627, 0.0053945, 0.0020444),
}
"""The first numbers of the vectors on the model's card."""


@pytest.fixture(scope="module")
def serving(minilm: StoredModel) -> Iterator[ServingModel]:
    placing = Placing(
        device=Device(kind="cpu", compute_types=("float32",)),
        compute_type="auto",
        lanes=1,
        threads_per_lane=1,
    )
    from headrace.models.store import ModelStore

    model = load_model(ModelStore(minilm.path.parent), minilm.name, placing)
    yield model
    model.engine.close()


@pytest.fixture(scope="module")
def framing(minilm: StoredModel) -> Framing:
    return Framing.of(minilm.manifest, Tokeniser.load(minilm))


def test_its_manifest_says_how_it_embeds(minilm: StoredModel) -> None:
    """As its makers have set it, with the licence."""
    manifest = minilm.manifest
    assert (manifest.task, manifest.pooling, manifest.normalise) == ("embed", "mean", True)
    assert (manifest.context_length, manifest.vocab_size) == (256, 30522)
    assert (manifest.source_prefix, manifest.source_suffix) == (("[CLS]",), ("[SEP]",))
    assert (manifest.licence, manifest.quantisation) == ("Apache-2.0", "float32")


@pytest.mark.parametrize("expected", REFERENCE, ids=lambda one: str(one["text"])[:20])
def test_texts_have_the_librarys_tokens(framing: Framing, expected: dict[str, Any]) -> None:
    """Accents, Chinese, emoji; what spells a special token is text."""
    assert framing.texts([expected["text"]]) == [tuple(expected["token_ids"])]


def test_vectors_are_the_librarys(serving: ServingModel, framing: Framing) -> None:
    """All at once, padded; and those that are published."""
    assert serving.encoder is not None
    texts = [one["text"] for one in REFERENCE]
    made = np.stack([np.frombuffer(vector, "<f4") for vector in serving.encoder.embed(framing.texts(texts))])
    wanted = np.stack([np.frombuffer(base64.b64decode(one["vector"]), "<f4") for one in REFERENCE])
    assert np.abs(made - wanted).max() < NEAR
    for text, first in PUBLISHED.items():
        assert np.allclose(made[texts.index(text)][: len(first)], first, atol=NEAR)
