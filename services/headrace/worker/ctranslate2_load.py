"""How CTranslate2's models are loaded and unloaded, whatever they are for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.contract.errors import StartError
from headrace.contract.work import Device

_UNLOAD_POLL_S = 0.01
"""Between two tries to unload: the engine does nothing while it is still busy, and has no event to wait for."""


def load(
    kind: Callable[..., Any],
    folder: Path,
    *,
    device: Device,
    compute_type: str,
    lanes: int,
    threads_per_lane: int,
) -> Any:
    """The model in `folder` as a `kind`: one of the classes of ctranslate2. Raises StartError."""
    try:
        return kind(
            str(folder),
            device=device.kind,
            device_index=device.index,
            compute_type=compute_type,
            inter_threads=lanes,
            intra_threads=threads_per_lane,
            # Never full, as each lane has one batch at most; and so nothing waits in it either.
            max_queued_batches=lanes,
        )
    except (RuntimeError, ValueError, MemoryError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StartError(
            f"the engine cannot load {folder} on {device.kind} as {compute_type}: {problem}",
            "Pull the model again, or choose another device or compute type",
        ) from error


def unload(model: Any) -> None:
    """Blocks until the model is gone: an Encoder, a Generator or a Translator."""
    while model.model_is_loaded:
        model.unload_model()
        if model.model_is_loaded:
            time.sleep(_UNLOAD_POLL_S)
