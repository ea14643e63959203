"""The memory estimate: what it says of networks, and that the engine takes about that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from headrace.models.fitting import largest_fit
from headrace.models.memory import kv_bytes_per_token, needed_bytes, weight_bytes
from headrace.models.network_shape import NetworkShape
from headrace.models.shape_of_ctranslate2 import shape_of_stored
from headrace.models.store import ModelStore
from tests.models.resident import BATCH, CONTEXT, PROMPT, measure_resident
from tests.worker.random_model import MODELS, install_random_model

SHAPE = NetworkShape(
    layers=32,
    width=4096,
    inner=11_008,
    heads=32,
    head_dim=128,
    vocabulary=32_000,
    parameters=6_738_000_000,
    context_length=4096,
)
"""Llama 2 of 7B."""
WORST = 0.15


def test_weights_take_what_the_compute_type_says() -> None:
    """A byte with int8 and its scales, four with float32; a CPU has no float16, and computes in float32 instead."""
    assert weight_bytes(SHAPE, "int8") == pytest.approx(6.74e9, rel=0.01)
    assert weight_bytes(SHAPE, "int8_float32") == weight_bytes(SHAPE, "int8")
    assert weight_bytes(SHAPE, "float16", "cuda") == 2 * SHAPE.parameters
    assert weight_bytes(SHAPE, "float16", "cpu") == weight_bytes(SHAPE, "float32") == 4 * SHAPE.parameters
    with pytest.raises(ValueError, match="int4"):
        weight_bytes(SHAPE, "int4")


def test_keys_and_values_take_two_numbers_for_each_layer_and_head() -> None:
    """Of 4 bytes on a CPU, and of 2 on a GPU where the compute type has such floats."""
    assert kv_bytes_per_token(SHAPE, "int8") == 2 * 32 * 4096 * 4
    assert kv_bytes_per_token(SHAPE, "int8", "cuda") == 2 * 32 * 4096 * 2
    assert kv_bytes_per_token(SHAPE, "int8_float32", "cuda") == 2 * 32 * 4096 * 4


def test_the_need_grows_with_lanes_entries_context_and_prompt() -> None:
    """And its weights do not."""
    base = needed_bytes(SHAPE, "int8", 1, 4, 512)
    for more in (
        needed_bytes(SHAPE, "int8", 2, 4, 512),
        needed_bytes(SHAPE, "int8", 1, 8, 512),
        needed_bytes(SHAPE, "int8", 1, 4, 1024),
    ):
        assert more.weights == base.weights
        assert more.kv == 2 * base.kv
        assert more.total > base.total
    assert needed_bytes(SHAPE, "int8", 1, 4, 512, prompt=100).total < base.total
    assert needed_bytes(SHAPE, "int8", 1, 4, 512, prompt=4096) == base


def test_loading_takes_the_weights_as_they_are_stored() -> None:
    """More than they take afterwards, where they are stored wider: too little memory for that is too little."""
    need = needed_bytes(replace(SHAPE, stored="float32"), "int8", 1, 1, 16)
    assert need.total == need.loading == 4 * SHAPE.parameters
    assert needed_bytes(replace(SHAPE, stored="int8"), "int8", 1, 1, 16).total > need.weights
    assert needed_bytes(replace(SHAPE, stored="float32"), "int8", 1, 1, 16, device="cuda").loading == 0


def test_the_most_that_fits_has_the_most_entries_and_of_equals_the_fewest_lanes() -> None:
    """Whatever was asked for is the limit."""
    assert largest_fit(lambda lanes, batch: lanes * batch <= 12, lanes=4, batch=5) == (3, 4)
    assert largest_fit(lambda lanes, batch: lanes * batch <= 12, lanes=4, batch=16) == (1, 12)
    assert largest_fit(lambda lanes, batch: True, lanes=4, batch=5) == (4, 5)
    assert largest_fit(lambda lanes, batch: False, lanes=4, batch=5) is None


@pytest.mark.integration
def test_a_real_engine_takes_about_what_was_estimated(tmp_path: Path) -> None:
    """Two lanes that have run batches of eight, in a process of their own: the error is under 15 %."""
    store = ModelStore(tmp_path)
    shape = shape_of_stored(install_random_model(store, "small", MODELS["small"]))
    measured = measure_resident(tmp_path, "small", "int8", lanes=2).model
    estimated = needed_bytes(shape, "int8", 2, BATCH, CONTEXT, prompt=PROMPT).total
    assert abs(estimated / measured - 1) < WORST, f"estimated {estimated:,}, measured {measured:,}"
