"""How fast a network runs on a machine, by its memory's bandwidth and its arithmetic alone: an estimate, for where
nobody has measured.

A decode step reads every weight once and the keys and values of every entry; a prefill multiplies every weight with
every token. What takes longer, reading or arithmetic, is the time, and lanes that run side by side share both.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.models.machine import CUDA, Machine
from headrace.models.memory import kv_bytes_per_token, weight_bytes
from headrace.models.network_shape import NetworkShape

_CPU_READ, _CUDA_READ = 0.7, 0.6
"""Of the bandwidth, in practice."""
_CPU_COMPUTE, _CUDA_COMPUTE = 0.8, 0.4
"""Of the arithmetic, in practice."""
_CORE_READ = 12.5e9
"""Bytes a second that a lane of one thread reads at most."""
_KV_PASSES = 1.5
"""Attention reads the keys and values; the engine also makes longer copies of them, which partly stay in the caches."""
_LARGE_ARRAY, _LARGE_SLOWER = 32 << 20, 3.5
"""Bytes of one layer's keys of a batch from which the C library gives each copy's memory back to the system, and takes
fresh pages for the next one; and by how much that slows a step, as measured."""
_LAYER_S = 60e-6
"""For each layer and step, whatever its size: starting its operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the machine is asked to run: in each of `lanes` lanes a batch of `batch` prompts of `prompt` tokens."""

    lanes: int
    batch: int
    prompt: int
    """Tokens before the first one of the output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast that is."""

    first_token_s: float
    """Of one prompt alone, in one lane: to its first token."""
    one_tokens_per_s: float
    """That one prompt gets, alone."""
    tokens_per_s: float
    """Of all lanes together, each with a full batch, while they decode."""
    measured: bool
    """By a calibration; else an estimate."""


def estimate_speed(shape: NetworkShape, compute_type: str, machine: Machine, load: Load) -> Speed:
    """The estimate. The compute type is one that the machine has."""
    alone_s = _step_s(shape, compute_type, machine, Load(lanes=1, batch=1, prompt=load.prompt))
    together_s = _step_s(shape, compute_type, machine, load)
    return Speed(
        first_token_s=_prefill_s(shape, compute_type, machine, load.prompt) + alone_s,
        one_tokens_per_s=1 / alone_s,
        tokens_per_s=load.lanes * load.batch / together_s,
        measured=False,
    )


def _step_s(shape: NetworkShape, compute_type: str, machine: Machine, load: Load) -> float:
    entries = load.lanes * load.batch
    kept = _KV_PASSES * load.prompt * kv_bytes_per_token(shape, compute_type, machine.kind)
    if machine.kind != CUDA and load.batch * load.prompt * shape.heads * shape.head_dim * 4 > _LARGE_ARRAY:
        kept *= _LARGE_SLOWER
    read = load.lanes * weight_bytes(shape, compute_type, machine.kind) + entries * kept
    lanes_with_cores = 1.0 if machine.kind == CUDA else min(1.0, load.lanes / machine.cores)
    arithmetic_s = 2 * shape.parameters * entries / (_flops(compute_type, machine) * lanes_with_cores)
    return max(read / _bandwidth(machine, load.lanes), arithmetic_s) + shape.layers * _LAYER_S


def _prefill_s(shape: NetworkShape, compute_type: str, machine: Machine, prompt: int) -> float:
    """Of one prompt, in a lane of one thread on a CPU."""
    inside = (
        shape.parameters - 2 * shape.vocabulary * shape.width
    )  # neither embedded nor projected for a token each
    operations = 2 * max(inside, shape.parameters // 2) * prompt
    attention = 4 * shape.layers * shape.heads * shape.head_dim * prompt**2
    share = 1.0 if machine.kind == CUDA else 1 / machine.cores
    floats = _flops("float16" if machine.kind == CUDA else "float32", machine) * share
    arithmetic_s = operations / (_flops(compute_type, machine) * share) + attention / floats
    return max(weight_bytes(shape, compute_type, machine.kind) / _bandwidth(machine, 1), arithmetic_s)


def _flops(compute_type: str, machine: Machine) -> float:
    if compute_type.startswith("int8"):
        found = machine.int8_flops
    elif machine.kind == CUDA and compute_type == "float32":
        found = machine.float_flops / 8  # without the units that multiply matrices
    else:
        found = machine.float_flops
    return found * (_CUDA_COMPUTE if machine.kind == CUDA else _CPU_COMPUTE)


def _bandwidth(machine: Machine, lanes: int) -> float:
    if machine.kind == CUDA:
        return machine.bandwidth * _CUDA_READ
    return min(machine.bandwidth * _CPU_READ, lanes * _CORE_READ)
