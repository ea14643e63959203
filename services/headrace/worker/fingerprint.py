"""What a measurement holds for: the machine, its engine and the number format. Elsewhere it says nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version

from headrace.contract.work import Device
from headrace.models.manifest import Manifest
from headrace.worker.device import choose_compute_type
from headrace.worker.hardware import processor_name

_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Two machines of equal fingerprint take equally long, as far as can be told without measuring."""

    processor: str
    """As it calls itself; "" where it does not."""
    cores: int
    """That this process may use."""
    device: str
    """"cpu" or "cuda"."""
    device_name: str
    engine: str
    """With its version, as another one may compute otherwise."""
    compute_type: str

    @property
    def digest(self) -> str:
        """A few digits that tell it from others, for a file's name."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def take_fingerprint(manifest: Manifest, device: Device, compute_type: str) -> Fingerprint:
    """That of this machine, where a model of that engine is computed on `device`. `compute_type` is as the settings
    have it. Raises StartError where the device has it not.
    """
    if manifest.engine == "fake":
        engine, computed = "fake", "none"
    else:
        engine = f"{manifest.engine} {version(manifest.engine)}"
        computed = choose_compute_type(compute_type, manifest.quantisation, device)
    return Fingerprint(
        processor=processor_name(),
        cores=device.cores,
        device=device.kind,
        device_name=device.name,
        engine=engine,
        compute_type=computed,
    )
