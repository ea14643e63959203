"""That memory which the engine frees is there for its next pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PASSES = """
import ctypes, resource, sys
from pathlib import Path
import numpy
from headrace.contract.work import Device
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from headrace.worker.allocator import keep_freed_blocks
from headrace.worker.serving import Placing, load_model

def load():
    store = ModelStore(Path(sys.argv[1]))
    install_fake_model(store)
    load_model(store, "fake", Placing(device=Device(kind="cpu"), compute_type="auto", lanes=1, threads_per_lane=1))

def one_pass():
    return [numpy.ones(1_500_000) for _ in range(4)]

{how}()
for _ in range(3):
    one_pass()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    one_pass()
print(int(hasattr(ctypes.CDLL(None), "mallopt")), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Ten of 48 MB each, in blocks of 12 MB: 120,000 pages."""


@pytest.mark.parametrize("how", ["keep_freed_blocks", "load"])
def test_blocks_that_were_freed_are_not_faulted_in_anew(how: str, tmp_path: Path) -> None:
    """Pass after pass in the same pages, where the C library lets itself be told so; and a model that is loaded, by a
    worker or by whoever measures one, tells it.
    """
    done = subprocess.run(
        [sys.executable, "-c", PASSES.replace("{how}", how), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    kept, faults = map(int, done.stdout.split())
    assert not kept or faults < 10_000
