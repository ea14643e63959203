"""How much memory a model really takes: loaded and run by the worker's own parts, in a process of its own.

    python -m tests.models.resident STORE MODEL TYPE LANES      prints a `Resident` as JSON

Each lane runs three batches of `BATCH` prompts, one after the other, as a lane that is used does.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

BATCH, PROMPT, NEW = 8, 192, 64
CONTEXT = PROMPT + NEW
_ROUNDS = 3
_PATIENCE_S = 280.0
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Bytes of one process."""

    before: int
    """With all modules of a worker, and no model."""
    most: int
    """At its peak."""

    @property
    def model(self) -> int:
        """What the model took."""
        return self.most - self.before


def measure_resident(store: Path, model: str, compute_type: str, lanes: int) -> Resident:
    """Measures in a new process. Blocks for seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.resident", str(store), model, compute_type, str(lanes)],
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return Resident(**json.loads(done.stdout))


def _measure(store: Path, name: str, compute_type: str, lanes: int) -> Resident:
    import headrace.worker.app  # noqa: F401 (all that a worker has before its model)
    from headrace.contract.values import Sampling
    from headrace.models.store import ModelStore
    from headrace.worker.device import EngineInventory, find_device
    from headrace.worker.measure import make_prompts, run_lanes
    from headrace.worker.serving import Placing, load_model

    device = find_device("cpu", EngineInventory())
    before = _bytes("VmRSS")
    placing = Placing(device=device, compute_type=compute_type, lanes=lanes, threads_per_lane=1)
    model = load_model(ModelStore(store), name, placing)

    def run(lane: int) -> None:
        for _ in range(_ROUNDS):
            model.engine.run(
                make_prompts(model, BATCH, PROMPT, seed=lane),
                sampling=Sampling(ignore_end=True),
                max_new=NEW,
                on_token=lambda index, token_id, step, last: False,
            )

    run_lanes(run, lanes)
    most = _bytes("VmHWM")
    model.engine.close()
    return Resident(before=before, most=most)


def _bytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    _, where, which, kind, count = sys.argv
    print(json.dumps(asdict(_measure(Path(where), which, kind, int(count)))))
