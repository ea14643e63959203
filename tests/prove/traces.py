"""That one trace tells the whole way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.integration.test_trace import NAMES, test_one_trace_holds_the_spans_of_all_processes


async def trace(folder: Path) -> Mapping[str, float]:
    """The integration test, as it is: it fails where a span, a parent or a process is missing, or content is found."""

    def store(step_s: float) -> Path:
        install_fake_model(ModelStore(folder / "models"), timing=FakeTiming(step_s=step_s))
        return folder / "models"

    try:
        await test_one_trace_holds_the_spans_of_all_processes(store, folder)
    except (AssertionError, StopIteration, TimeoutError):
        return {"missing": float(len(NAMES))}
    return {"missing": 0.0}
