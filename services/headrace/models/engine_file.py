"""What a CTranslate2 `model.bin` holds, without its weights: each is skipped, so that a large file is read at once.

Source: `ctranslate2.specs.model_spec.ModelSpec._serialize`, binary versions 2 to 6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headrace.models.errors import BadModelFile, UnsupportedModel
from headrace.models.manifest import ModelTask

MODEL_NAME = "model.bin"

_TASKS: Mapping[str, ModelTask] = {
    "TransformerDecoderSpec": "generate",
    "TransformerSpec": "translate",
    "TransformerEncoderSpec": "embed",
}
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_VERSIONS = range(2, 7)
_MOST_VARIABLES = 1_000_000
_MOST_DIMENSIONS = 8
_KEPT_BYTES = 8
"""Of a variable's value: enough for a single number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One variable."""

    shape: tuple[int, ...]
    type: str
    start: bytes
    """The first bytes of its value."""

    @property
    def count(self) -> int:
        total = 1
        for n in self.shape:
            total *= n
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """A whole `model.bin`."""

    path: Path
    spec: str
    task: ModelTask
    variables: Mapping[str, Stored]
    aliases: Mapping[str, str]

    def shape(self, name: str) -> tuple[int, ...] | None:
        found = self.variables.get(self.aliases.get(name, name))
        return None if found is None else found.shape

    def number(self, name: str) -> int | None:
        """A variable that is one whole number."""
        found = self.variables.get(name)
        if found is None or found.shape or found.type not in ("int8", "int16", "int32"):
            return None
        size = {"int8": 1, "int16": 2, "int32": 4}[found.type]
        return int.from_bytes(found.start[:size], "little", signed=True)

    def layers(self, stack: str) -> int:
        """How many layers `decoder` or `encoder` has."""
        found = [name.split("/")[1] for name in self.variables if name.startswith(f"{stack}/layer_")]
        return 1 + max((int(n.removeprefix("layer_")) for n in found if n[6:].isdigit()), default=-1)

    @property
    def quantisation(self) -> str:
        """The type of its matrices."""
        types = [v.type for v in self.variables.values() if len(v.shape) == 2 and v.count > 1]
        return max(set(types), key=types.count, default="float32")

    @property
    def parameters(self) -> int:
        return sum(v.count for name, v in self.variables.items() if v.shape and not name.endswith("_scale"))


def read_engine_file(folder: Path) -> EngineFile:
    """The `model.bin` in `folder`. Raises BadModelFile where it is missing, damaged or truncated, UnsupportedModel for
    a kind of network that Headrace has no use for.
    """
    path = folder / MODEL_NAME
    try:
        with path.open("rb") as file:
            return _parse(path, file, path.stat().st_size)
    except OSError as error:
        raise BadModelFile(path, error.strerror or str(error)) from error
    except (struct.error, ValueError, IndexError, EOFError) as error:
        raise BadModelFile(path, "damaged or truncated") from error


def _parse(path: Path, file: BinaryIO, size: int) -> EngineFile:
    version = _number(file, "I")
    if version not in _VERSIONS:
        raise BadModelFile(path, f"no CTranslate2 model, or of an unknown version (it says {version})")
    spec = _text(file)
    if spec not in _TASKS:
        raise UnsupportedModel(path.parent.name, f"it is a {spec}; known are {', '.join(_TASKS)}")
    _number(file, "I")  # the revision: the engine looks at it
    variables = {}
    count = _number(file, "I")
    if count > _MOST_VARIABLES:
        raise ValueError("too many variables")
    for _ in range(count):
        name = _text(file)
        dimensions = _number(file, "B")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError("too many dimensions")
        shape = tuple(_number(file, "I") for _ in range(dimensions))
        kind = _TYPES[_number(file, "B")]
        length = _number(file, "I")
        at = file.tell()
        if at + length > size:
            raise EOFError
        variables[name] = Stored(shape=shape, type=kind, start=file.read(min(length, _KEPT_BYTES)))
        file.seek(at + length)
    aliases = {_text(file): _text(file) for _ in range(_number(file, "I"))}
    return EngineFile(path=path, spec=spec, task=_TASKS[spec], variables=variables, aliases=aliases)


def _number(file: BinaryIO, form: str) -> int:
    data = file.read(struct.calcsize(form))
    value: int = struct.unpack(f"<{form}", data)[0]
    return value


def _text(file: BinaryIO) -> str:
    length = _number(file, "H")
    data = file.read(length)
    if len(data) != length:
        raise EOFError
    return data[:-1].decode()
