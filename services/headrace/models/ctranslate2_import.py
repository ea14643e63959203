"""A folder with a CTranslate2 model into the store, as it is; with what Headrace has to know besides.

The format does not say how long the context is, nor has it a tokeniser. Both come from the files that converters
leave beside it (`tokenizer.json`, `tokenizer_config.json`, …), or from a manifest of ours, where the folder was made by
`headrace model import` or comes from another store.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from headrace.models.engine_file import EngineFile, read_engine_file
from headrace.models.errors import BadCheckpoint
from headrace.models.json_file import load_json
from headrace.models.manifest import MANIFEST_NAME, Manifest, read_manifest
from headrace.models.seal import digest_file
from headrace.models.template_check import check_template
from headrace.models.tokeniser import TOKENISER_NAME
from headrace.models.tokeniser_files import read_json, read_tokeniser

_VOCABULARIES = ("vocabulary", "shared_vocabulary", "source_vocabulary", "target_vocabulary")
_CHUNK = 8 << 20

ByteProgress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all)."""


def import_engine_folder(
    folder: Path,
    into: Path,
    *,
    name: str,
    source: str,
    licence: str | None,
    context_length: int | None,
    progress: ByteProgress,
    with_template: bool = True,
) -> Manifest:
    """Copies the model in `folder` into `into`, and says what it is. Raises BadCheckpoint, BadTokeniser,
    UnsupportedModel, BadTemplate, BadManifest. All but the copying comes first.
    """
    engine = read_engine_file(folder)
    config = read_json(folder / "config.json", default={})
    files, vocabulary = _vocabulary(folder)
    tokenizer = read_tokeniser(folder, _tokeniser_size(folder, len(vocabulary)))
    _check_vocabulary(folder, tokenizer, vocabulary)
    if (folder / MANIFEST_NAME).exists():
        manifest = _verified(folder)
        manifest = dataclasses.replace(
            manifest, name=name, source=source, files={}, vocab_size=len(vocabulary)
        )
        if licence is not None:
            manifest = dataclasses.replace(manifest, licence=licence)
    else:
        fields = _describe(folder, engine, config, vocabulary, context_length)
        manifest = Manifest(**fields, name=name, source=source, licence=licence or "unknown")
    if not with_template:
        manifest = dataclasses.replace(manifest, chat_template=None)
    if not manifest.end_tokens:
        raise BadCheckpoint(folder, "its manifest names no end token")
    check_template(manifest.chat_template, manifest.bos_token, manifest.end_tokens[0])
    copied = [folder / "model.bin", *files]
    if (folder / "config.json").exists():
        copied.append(folder / "config.json")
    _copy(copied, into, progress)
    tokenizer.save(str(into / TOKENISER_NAME), pretty=False)
    return manifest


def _verified(folder: Path) -> Manifest:
    """Our manifest of the folder, whose files are what it says."""
    manifest = read_manifest(folder)
    for file, entry in manifest.files.items():
        if not (folder / file).is_file() or digest_file(folder / file) != entry.sha256:
            raise BadCheckpoint(folder, f"{file} is not what its manifest says")
    return manifest


def _vocabulary(folder: Path) -> tuple[Sequence[Path], Sequence[str]]:
    """The vocabulary's files, and the tokens of the output."""
    found: list[tuple[Path, list[str]]] = []
    for name in _VOCABULARIES:
        for path in (folder / f"{name}.json", folder / f"{name}.txt"):
            if path.exists():
                found.append((path, _read_vocabulary(path)))
    if not found:
        raise BadCheckpoint(folder, f"it has no vocabulary ({', '.join(_VOCABULARIES)}.json or .txt)")
    if any(tokens != found[0][1] for _, tokens in found):
        raise BadCheckpoint(folder, "source and target have different vocabularies, which cannot be used yet")
    return [path for path, _ in found], found[-1][1]


def _read_vocabulary(path: Path) -> list[str]:
    try:
        tokens = load_json(path) if path.suffix == ".json" else path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadCheckpoint(path.parent, f"{path.name} cannot be read") from error
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise BadCheckpoint(path.parent, f"{path.name} is no list of tokens")
    return tokens


def _tokeniser_size(folder: Path, engine: int) -> int:
    """As large as the engine's vocabulary; Marian's has a token for padding more, which the engine leaves out."""
    if (folder / MANIFEST_NAME).exists() and (folder / TOKENISER_NAME).exists():
        added = read_json(folder / TOKENISER_NAME).get("added_tokens", [])
        added = added if isinstance(added, list) else []
        if any(isinstance(t, dict) and t.get("id") == engine and t.get("content") == "<pad>" for t in added):
            return engine + 1
    return engine


def _check_vocabulary(folder: Path, tokenizer: Tokenizer, vocabulary: Sequence[str]) -> None:
    for token_id, token in enumerate(vocabulary):
        if (found := tokenizer.id_to_token(token_id)) != token and not (found or "").startswith("<unused"):
            reason = f"token {token_id} is {token!r} in its vocabulary and {found!r} in its tokeniser"
            raise BadCheckpoint(folder, reason)


def _describe(
    folder: Path,
    engine: EngineFile,
    config: Mapping[str, Any],
    vocabulary: Sequence[str],
    context_length: int | None,
) -> Mapping[str, Any]:
    """The fields of a manifest, from the engine's own files and from those beside them."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    settings = read_json(folder / "tokenizer_config.json", default={})
    stack = "encoder" if engine.task == "embed" else "decoder"
    ends = [ids[config["eos_token"]]] if config.get("eos_token") in ids else []
    more = read_json(folder / "generation_config.json", default={}).get("eos_token_id", [])
    ends += [i for i in (more if isinstance(more, list) else [more]) if i not in ends]
    if engine.task == "embed" and not ends and "[SEP]" in ids:
        ends = [ids["[SEP]"]]
    if not ends or not all(isinstance(i, int) and 0 <= i < len(vocabulary) for i in ends):
        raise BadCheckpoint(folder, "nothing says what its end token is (eos_token in config.json)")
    bos = config.get("bos_token")
    heads = engine.number(f"{stack}/num_heads") or 0
    width = (
        engine.shape(f"{stack}/embeddings/weight") or engine.shape(f"{stack}/embeddings_0/weight") or (0, 0)
    )[1]
    bert = "[CLS]" in ids
    fields: dict[str, Any] = {
        "task": engine.task,
        "engine": "ctranslate2",
        "architecture": engine.spec,
        "context_length": context_length or _context(folder, engine, stack, settings),
        "vocab_size": len(vocabulary),
        "end_token_ids": tuple(ends),
        "end_tokens": tuple(vocabulary[i] for i in ends),
        "bos_token_id": ids.get(bos) if isinstance(bos, str) else None,
        "bos_token": bos if isinstance(bos, str) and bos in ids else "",
        "add_bos": bool(settings.get("add_bos_token", False)),
        "chat_template": _chat_template(folder, settings),
        "quantisation": engine.quantisation,
        "parameters": engine.parameters,
        "layers": engine.layers(stack),
        "heads": heads,
        "head_dim": engine.number(f"{stack}/layer_0/self_attention/head_dim")
        or (width // heads if heads else 0),
    }
    if engine.task == "embed":
        fields["source_prefix"], fields["source_suffix"] = (
            (("[CLS]",), ("[SEP]",)) if bert else (("<s>",), ("</s>",))
        )
        fields["pooling"], fields["normalise"] = "mean", True
    elif engine.task == "translate" and not config.get("add_source_eos"):
        fields["source_suffix"] = (vocabulary[ends[0]],)
    return fields


def _context(folder: Path, engine: EngineFile, stack: str, settings: Mapping[str, Any]) -> int:
    table = engine.shape(f"{stack}/position_encodings/encodings")
    if table is not None:
        return table[0]
    said = settings.get("model_max_length")
    # Where nobody knew, transformers writes 1e30.
    if isinstance(said, int) and 0 < said < 1 << 30:
        return said
    raise BadCheckpoint(folder, "nothing says how long its context is: give --context-length")


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    return found if isinstance(found, str) else None


def _copy(paths: Sequence[Path], into: Path, progress: ByteProgress) -> None:
    total, done = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        with path.open("rb") as source, (into / path.name).open("wb") as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                done += len(chunk)
                progress(done, total)
