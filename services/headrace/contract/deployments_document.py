"""The desired state as JSON. Whoever may write to the bucket may write anything: what cannot be read is a
ValueError.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any, TypeVar

from headrace.contract.deployments import (
    ANY,
    MAX_REPLICAS,
    Assigned,
    Assignment,
    ModelState,
    NodeModel,
    NodeReport,
    Wish,
)
from headrace.contract.errors import HeadraceError
from headrace.contract.references import VERSION_DIGITS, is_reference
from headrace.contract.subjects import is_name

DEVICES = (ANY, "cpu", "cuda")
MAX_MODELS = 1_024
_Value = TypeVar("_Value", Wish, Assigned, NodeReport)


def write_document(value: Wish | Assigned | NodeReport) -> bytes:
    """The JSON of a value."""
    return json.dumps(asdict(value), default=lambda part: part.value).encode()


def read_wish(body: bytes) -> Wish:
    """Raises ValueError."""
    wish: Wish = _known(Wish, _parse(body))
    _check(is_reference(wish.reference), "reference")
    _check(len(wish.version) == VERSION_DIGITS and is_reference(f"m@{wish.version}"), "version")
    _check("@" not in wish.reference or wish.reference.endswith(f"@{wish.version}"), "version")
    _check(type(wish.size) is int and wish.size >= 0, "size")
    _check(type(wish.replicas) is int and 0 <= wish.replicas <= MAX_REPLICAS, "replicas")
    _check(wish.device in DEVICES, "device")
    _check(
        isinstance(wish.compute_type, str) and wish.compute_type.replace("_", "").isalnum(), "compute_type"
    )
    _check(_texts(wish.labels), "labels")
    return wish


def read_assigned(body: bytes) -> Assigned:
    """Raises ValueError."""
    models = _parse(body).get("models", ())
    _check(isinstance(models, list) and len(models) <= MAX_MODELS, "models")
    assigned = tuple(_known(Assignment, model) for model in models)
    for model in assigned:
        _check(is_reference(model.reference) and len(model.version) == VERSION_DIGITS, "models")
        _check(isinstance(model.since_s, int | float), "since_s")
    return Assigned(models=assigned)


def read_report(body: bytes) -> NodeReport:
    """Raises ValueError."""
    said = _parse(body)
    models = said.pop("models", [])
    _check(isinstance(models, list) and len(models) <= MAX_MODELS, "models")
    report: NodeReport = _known(NodeReport, said)
    _check(is_name(report.node) and _texts(report.labels), "node")
    _check(type(report.memory_bytes) is int and type(report.free_bytes) is int, "memory_bytes")
    return replace(report, models=tuple(map(_model, models)))


def _model(said: Any) -> NodeModel:
    _check(isinstance(said, dict), "models")
    state = ModelState(said.pop("state", None))
    model: NodeModel = _known(NodeModel, {**said, "state": state})
    _check(is_reference(model.reference) and isinstance(model.memory_bytes, int), "models")
    return model


def _parse(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except RecursionError:
        raise ValueError("is no document of ours") from None
    _check(isinstance(said, dict), "document")
    return said  # type: ignore[no-any-return]


def _known(kind: Any, said: Any) -> Any:
    """What a newer version adds is left out."""
    _check(isinstance(said, dict), "document")
    fields = kind.__dataclass_fields__
    try:
        return kind(**{name: value for name, value in said.items() if name in fields})
    except (TypeError, HeadraceError) as error:
        raise ValueError(str(error)) from None


def _texts(labels: Any) -> bool:
    return isinstance(labels, dict) and all(isinstance(t, str) for pair in labels.items() for t in pair)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} is not what it should be")
