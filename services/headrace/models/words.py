"""What it takes to make tokens of text, without the weights: all that a router needs of a model.

<root>/.words/<name>@<version>/     the manifest, and the files that are no weights
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection

from headrace.models.bucket import FilesBucket
from headrace.models.errors import BadManifest, StoreFailed
from headrace.models.fetch import fetch_files
from headrace.models.manifest import Manifest, read_manifest
from headrace.models.push import pushed_manifest
from headrace.models.seal import sync_folder, write_manifest
from headrace.models.store import ModelStore, StoredModel

_FOLDER = ".words"
_WEIGHTS = (".bin", ".safetensors", ".gguf")


def word_files(manifest: Manifest) -> tuple[str, ...]:
    """The files of a version that are no weights."""
    return tuple(file for file in manifest.files if not file.endswith(_WEIGHTS))


def words_digest(manifest: Manifest) -> str:
    """Equal for versions that make the same tokens of the same text, and the other way round, and have the same limits:
    what was prepared for one can be run by the other.
    """
    parts = {
        "files": {
            file: manifest.files[file].sha256 for file in sorted(word_files(manifest)) if _tells_words(file)
        },
        "template": manifest.chat_template,
        "tokens": [manifest.vocab_size, manifest.end_token_ids, manifest.bos_token_id, manifest.add_bos],
        "context_length": manifest.context_length,
        "task": manifest.task,
        "around": [manifest.source_prefix, manifest.source_suffix, manifest.target_prefix],
        "languages": dict(manifest.languages),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _tells_words(file: str) -> bool:
    return "token" in file or "vocab" in file or file.endswith((".model", ".spm"))


def find_words(store: ModelStore, name: str, version: str) -> StoredModel | None:
    """A version's words, where a router fetched them."""
    folder = store.root / _FOLDER / f"{name}@{version}"
    try:
        manifest = read_manifest(folder)
    except BadManifest:
        return None
    return StoredModel(manifest, folder) if (manifest.name, manifest.version) == (name, version) else None


async def fetch_words(store: ModelStore, bucket: FilesBucket, name: str, version: str) -> StoredModel | None:
    """Has a version's words here; None where the bucket has not the version.

    Raises DamagedObject, StoreFailed, Unavailable.
    """
    manifest = await pushed_manifest(bucket, name, version)
    if manifest is None:
        return None
    target = store.root / _FOLDER / f"{name}@{version}"
    partial = target.with_name(f".partial.{target.name}")
    try:
        await fetch_files(bucket, manifest, partial, word_files(manifest), lambda done, total: None)
        files = partial / "files"
        files.mkdir(parents=True, exist_ok=True)  # where it has none
        write_manifest(files, manifest)
        shutil.rmtree(target, ignore_errors=True)
        files.rename(target)
        sync_folder(target.parent)
        shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise StoreFailed(store.root, error.strerror or str(error)) from error
    return StoredModel(manifest, target)


def forget_words(store: ModelStore, kept: Collection[str]) -> None:
    """Removes those of all versions but `kept`, `name@version` each."""
    folder = store.root / _FOLDER
    for path in folder.iterdir() if folder.is_dir() else ():
        if not path.name.startswith(".") and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
