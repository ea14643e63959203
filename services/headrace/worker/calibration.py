"""What was measured of a model on a machine, and its JSON."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from headrace.contract.cost_document import cost_document, read_cost
from headrace.contract.costs import ModelCost
from headrace.worker.fingerprint import Fingerprint

FORMAT = 1

_NUMBERS = re.compile(r"\[([\d\s.,e+-]+)\]")

_Count = Annotated[int, Field(ge=1, le=1_024)]
_Bytes = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How much so many lanes of so many threads make together."""

    lanes: _Count
    threads_per_lane: _Count
    tokens_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a model takes of the process's memory. 0 = not measured, as on a GPU."""

    weights_bytes: _Bytes = 0
    """Once it is loaded, whatever the lanes."""
    lane_bytes: _Bytes = 0
    """More for each lane, while it runs a batch of `headrace.worker.trial.MEMORY_BATCH`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One model, of one version, on one machine."""

    model: str
    version: str
    fingerprint: Fingerprint
    lanes: _Count
    """The best of the trials; `cost` was measured with so many at work."""
    threads_per_lane: _Count
    cost: ModelCost
    trials: tuple[Trial, ...] = ()
    memory: Memory = Memory()
    measured: str = ""
    """When, in ISO 8601."""


_FIELDS: TypeAdapter[Fingerprint] = TypeAdapter(Fingerprint)
_TRIALS: TypeAdapter[tuple[Trial, ...]] = TypeAdapter(tuple[Trial, ...])
_MEMORY: TypeAdapter[Memory] = TypeAdapter(Memory)
_HEAD: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
_COUNT: TypeAdapter[int] = TypeAdapter(_Count)
_TEXT: TypeAdapter[str] = TypeAdapter(str)


def write_calibration(calibration: Calibration) -> str:
    """The text of its file. Costs are rounded to four significant digits."""
    document = {
        "format": FORMAT,
        "model": calibration.model,
        "version": calibration.version,
        "measured": calibration.measured,
        "machine": asdict(calibration.fingerprint),
        "lanes": calibration.lanes,
        "threads_per_lane": calibration.threads_per_lane,
        "trials": [asdict(trial) for trial in calibration.trials],
        "memory": asdict(calibration.memory),
        "cost": cost_document(calibration.cost),
    }
    return _with_rows(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def read_calibration(text: str) -> Calibration:
    """The calibration in `text`. Raises ValueError with what is wrong."""
    try:
        document = _HEAD.validate_json(text)
        if (found := document.get("format")) != FORMAT:
            raise ValueError(f"its format is {found!r}; this version of Headrace reads format {FORMAT}")
        return Calibration(
            model=_TEXT.validate_python(document["model"]),
            version=_TEXT.validate_python(document["version"]),
            measured=_TEXT.validate_python(document["measured"]),
            fingerprint=_FIELDS.validate_python(document["machine"]),
            lanes=_COUNT.validate_python(document["lanes"]),
            threads_per_lane=_COUNT.validate_python(document["threads_per_lane"]),
            trials=_TRIALS.validate_python(document["trials"]),
            memory=_MEMORY.validate_python(document["memory"]),
            cost=read_cost(document["cost"]),
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise ValueError(f"{where}: {fault['msg']}" if where else fault["msg"]) from error
    except KeyError as error:
        raise ValueError(f"it has no {error}") from error


def _with_rows(text: str) -> str:
    """`text` with each list of numbers on one line: so a grid is read."""
    return _NUMBERS.sub(lambda found: "[" + ", ".join(found[1].replace(",", " ").split()) + "]", text)
