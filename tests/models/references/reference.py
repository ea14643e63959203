"""A reference: a tiny model on disk, and what transformers computes with it. Reading one needs no torch.

<architecture>/model.gguf             the checkpoint as GGUF, where Headrace imports that
<architecture>/model.bin, …           else the checkpoint, converted to CTranslate2's format
<architecture>/reference.json, .npz   texts, tokens and logits
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent
COMPARED = 8
"""The last positions of a run, whose logits are kept: they follow from all that comes before."""
GENERATED = 20
"""The most tokens of a greedy output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One prompt."""

    text: str
    ids: list[int]
    """Of the prompt, with all that goes around it."""
    target: list[int]
    """Encoder-decoders: the tokens that the decoder begins with, the start token first."""
    greedy: list[int]
    """What follows, up to the end token, which is not in it. Empty for an encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What there is to compare with."""

    architecture: str
    task: str
    runs: list[Run]
    logits: list[npt.NDArray[np.float32]]
    """Of each run, its last COMPARED positions: [position, token] of a decoder over prompt and output so far;
    an encoder's hidden states."""
    texts: dict[str, list[int]]
    """Text → ids, by the original library."""

    @property
    def folder(self) -> Path:
        return FOLDER / self.architecture

    @property
    def source(self) -> Path:
        """What to import."""
        gguf = self.folder / "model.gguf"
        return gguf if gguf.exists() else self.folder

    def save(self, folder: Path) -> None:
        document = {
            "architecture": self.architecture,
            "task": self.task,
            "runs": [asdict(run) for run in self.runs],
            "texts": self.texts,
        }
        text = json.dumps(document, ensure_ascii=False, indent=None, separators=(",", ":"))
        (folder / "reference.json").write_text(
            text.replace('},{"text"', '},\n{"text"') + "\n", encoding="utf-8"
        )
        np.savez_compressed(folder / "reference.npz", *self.logits)


def read_reference(folder: Path) -> Reference:
    """The reference in `folder`."""
    document: dict[str, Any] = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    with np.load(folder / "reference.npz") as arrays:
        logits = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    return Reference(
        architecture=document["architecture"],
        task=document["task"],
        runs=[Run(**run) for run in document["runs"]],
        logits=logits,
        texts=document["texts"],
    )


def committed() -> list[str]:
    """The architectures that there are references of."""
    return sorted(path.parent.name for path in FOLDER.glob("*/reference.json"))
