"""A machine that a plan is made for: a device's memory, and how fast it is."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.models.known_devices import KnownDevice, find_known

CPU, CUDA = "cpu", "cuda"
CPU_TYPES = ("int8", "int8_float32", "float32")
CUDA_TYPES = ("int8", "int8_float32", "int8_float16", "float16", "bfloat16", "float32")
PLANNED_TYPES = ("int8", "int8_float32", "int8_float16", "float16", "bfloat16", "float32")
"""The compute types that a plan is about, from small to large."""

_ASSUMED_CPU_BANDWIDTH = 20e9
_ASSUMED_CUDA_BANDWIDTH = 300e9
_CPU_FLOPS, _CPU_INT8_FLOPS = 130e9, 800e9
"""Of a core in float32 and int8: as of a server's with AVX-512; an older one has a third."""
_CUDA_FLOPS = 60e12
"""Of an unknown card in float16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One device. What nobody said is assumed, and `assumed` says so."""

    name: str
    kind: str
    """"cpu" or "cuda"."""
    cores: int
    """Processor cores; on a GPU they count for nothing here."""
    memory_bytes: int
    """Of the device: that of the machine for "cpu", of the card for "cuda"."""
    bandwidth: float
    """Bytes a second that are read of it."""
    float_flops: float
    """Operations a second, all cores: in float16 on a GPU, in float32 on a CPU."""
    int8_flops: float
    compute_types: tuple[str, ...]
    """What the engine computes in there."""
    device_name: str = ""
    """What the processor or card calls itself; "" where a machine is only described."""
    assumed: tuple[str, ...] = ()
    """Which of the numbers are guesses, in words for a person."""


def make_machine(
    *,
    name: str,
    kind: str,
    cores: int,
    memory_bytes: int,
    bandwidth: float = 0.0,
    compute_types: tuple[str, ...] = (),
    device_name: str = "",
) -> Machine:
    """The machine with these numbers; 0 and "" are filled in by what the device is known to have, or else guessed."""
    known = find_known(device_name or name) if kind == CUDA else None
    assumed = []
    if not bandwidth:
        bandwidth = _bandwidth(kind, known)
        source = "by its data sheet" if known else "a guess: say it for a better one"
        assumed.append(f"{bandwidth / 1e9:,.0f} GB/s of memory bandwidth ({source})")
    if kind == CUDA:
        flops = known.float16_flops if known else _CUDA_FLOPS
        speeds = flops, 2 * flops
        assumed.append(f"{flops / 1e12:,.0f} TFLOP/s ({'by its data sheet' if known else 'a guess'})")
    else:
        speeds = cores * _CPU_FLOPS, cores * _CPU_INT8_FLOPS
        assumed.append(
            f"{_CPU_FLOPS / 1e9:.0f} GFLOP/s a core, {_CPU_INT8_FLOPS / 1e9:.0f} in int8 (AVX-512)"
        )
    return Machine(
        name=name,
        kind=kind,
        cores=cores,
        memory_bytes=memory_bytes,
        bandwidth=bandwidth,
        float_flops=speeds[0],
        int8_flops=speeds[1],
        compute_types=compute_types or (CUDA_TYPES if kind == CUDA else CPU_TYPES),
        device_name=device_name,
        assumed=tuple(assumed),
    )


def _bandwidth(kind: str, known: KnownDevice | None) -> float:
    if known is not None:
        return known.bandwidth
    return _ASSUMED_CUDA_BANDWIDTH if kind == CUDA else _ASSUMED_CPU_BANDWIDTH
