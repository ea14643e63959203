"""The speed estimate, against costs that were measured with two lanes of one thread on two cores."""

from __future__ import annotations

import pytest

from headrace.models.known_devices import find_known
from headrace.models.machine import make_machine
from headrace.models.network_shape import NetworkShape
from headrace.models.speed import Load, estimate_speed
from headrace.router.core.cost import CostModel
from headrace.simulator.grids import load_grid
from tests.models.test_memory import SHAPE

MACHINE = make_machine(name="two cores", kind="cpu", cores=2, memory_bytes=24 * 10**9, bandwidth=30e9)
"""About what the grids were measured on."""
MEASURED = {
    "smollm2": NetworkShape(
        layers=30,
        width=576,
        inner=1536,
        heads=9,
        head_dim=64,
        vocabulary=49_152,
        parameters=134_515_008,
    ),
    "larger": NetworkShape(
        layers=16,
        width=1024,
        inner=2752,
        heads=16,
        head_dim=64,
        vocabulary=8192,
        parameters=219_152_384,
    ),
}
H200 = make_machine(name="h200 141GB", kind="cuda", cores=1, memory_bytes=141 * 10**9, device_name="h200")


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize(("batch", "prompt"), [(1, 64), (1, 256), (4, 64), (8, 256), (8, 512)])
def test_an_estimate_is_of_the_right_size(name: str, batch: int, prompt: int) -> None:
    """Within a half of what was measured: enough to tell which machine to buy."""
    found = estimate_speed(MEASURED[name], "int8", MACHINE, Load(lanes=2, batch=batch, prompt=prompt))
    measured = CostModel(load_grid(name))
    assert found.tokens_per_s * measured.step(batch, prompt) / (2 * batch) == pytest.approx(1, abs=0.5)
    assert not found.measured


def test_more_bandwidth_fewer_bytes_and_shorter_prompts_are_faster() -> None:
    """And a first token takes longer than a later one."""
    load = Load(lanes=1, batch=1, prompt=512)
    slow = make_machine(name="a", kind="cpu", cores=8, memory_bytes=64 * 10**9, bandwidth=10e9)
    fast = make_machine(name="b", kind="cpu", cores=8, memory_bytes=64 * 10**9, bandwidth=16e9)
    int8 = estimate_speed(SHAPE, "int8", slow, load)
    assert estimate_speed(SHAPE, "int8", fast, load).one_tokens_per_s > int8.one_tokens_per_s
    assert estimate_speed(SHAPE, "float32", slow, load).one_tokens_per_s < int8.one_tokens_per_s
    assert int8.first_token_s > 1 / int8.one_tokens_per_s
    shorter = estimate_speed(SHAPE, "int8", slow, Load(lanes=1, batch=1, prompt=64))
    assert shorter.first_token_s < int8.first_token_s


def test_a_batch_pays() -> None:
    """On a GPU as on a CPU."""
    for machine, kind in ((MACHINE, "int8"), (H200, "float16")):
        one, many = (estimate_speed(SHAPE, kind, machine, Load(lanes=1, batch=b, prompt=64)) for b in (1, 16))
        assert many.tokens_per_s > 3 * one.tokens_per_s


def test_cards_are_known_by_their_names() -> None:
    """Short or long; nothing else is taken for one."""
    for text in ("h200", "NVIDIA H200", "NVIDIA H200 NVL"):
        card = find_known(text)
        assert card is not None
        assert card.name == "h200"
    card = find_known("NVIDIA L40S")
    assert card is not None
    assert card.name == "l40s"
    assert find_known("AMD EPYC") is None
    assert find_known("l400") is None


def test_what_nobody_said_is_said_to_be_assumed() -> None:
    """And what was said is not."""
    assert any("4,800 GB/s" in line and "data sheet" in line for line in H200.assumed)
    assert not any("bandwidth" in line for line in MACHINE.assumed)
    assert any(
        "guess" in line for line in make_machine(name="x", kind="cpu", cores=1, memory_bytes=1).assumed
    )
