"""What a model takes of a node that has not told it."""

from __future__ import annotations

import dataclasses

import pytest

from headrace.contract.deployments import Wish
from headrace.models.manifest import Manifest
from headrace.router.expected_memory import FILES_SHARE, expected_memory_bytes

WISH = Wish(reference="m", version="0123456789ab", size=138_000_000)
SMALL = Manifest(
    name="m",
    engine="ctranslate2",
    architecture="llama",
    context_length=2048,
    vocab_size=49_152,
    end_token_ids=(2,),
    end_tokens=("</s>",),
    quantisation="int8",
    parameters=134_515_008,
    layers=30,
    heads=9,
    head_dim=64,
    source="test",
    licence="none",
)


def test_it_is_that_of_the_compute_type_that_is_wanted() -> None:
    """Weights, and one request with a context of a thousand tokens: more in float32 than in the stored int8."""
    narrow = expected_memory_bytes(WISH, SMALL)
    wide = expected_memory_bytes(dataclasses.replace(WISH, compute_type="float32"), SMALL)
    assert wide - narrow == pytest.approx(3 * SMALL.parameters, rel=0.05)
    assert narrow > 1.5 * WISH.size


def test_of_what_little_is_known_it_is_that_of_the_files() -> None:
    """Where the manifest is not here, or says nothing of the network, or the format is none."""
    by_files = round(WISH.size * FILES_SHARE)
    assert expected_memory_bytes(WISH, None) == by_files
    assert expected_memory_bytes(WISH, dataclasses.replace(SMALL, layers=0)) == by_files
    assert expected_memory_bytes(WISH, dataclasses.replace(SMALL, task="embed")) == by_files
    assert expected_memory_bytes(dataclasses.replace(WISH, compute_type="int4"), SMALL) == by_files
