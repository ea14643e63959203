"""What the MODEL of `headrace plan` means: a model in the store, a folder, a GGUF file, or a number of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.cli.model_needed import check_there
from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import is_name
from headrace.models.engine_file import MODEL_NAME
from headrace.models.manifest import MANIFEST_NAME, Manifest, read_manifest
from headrace.models.network_shape import NetworkShape
from headrace.models.shape_of_checkpoint import CONFIG_FILE, shape_of_checkpoint
from headrace.models.shape_of_ctranslate2 import shape_of_folder, shape_of_stored
from headrace.models.shape_of_gguf import shape_of_gguf
from headrace.models.store import ModelStore, StoredModel
from headrace.models.typical_shapes import parse_count, typical_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A model that a plan is for."""

    name: str
    """As it was written."""
    shape: NetworkShape
    manifest: Manifest | None = None
    """Of a model that may have been calibrated."""


def find_model(store: ModelStore, text: str) -> PlannedModel:
    """The model that `text` means; a name in the store comes first. Raises InvalidRequest("MODEL"), StartError, or a
    ModelError.
    """
    if is_name(text) and text in store.names():
        model = store.open(text)
        return PlannedModel(name=text, shape=shape_of_stored(model), manifest=model.manifest)
    try:
        count = parse_count(text)
    except ValueError as error:
        raise InvalidRequest("MODEL", str(error)) from error
    if count is not None:
        return PlannedModel(name=text, shape=typical_shape(count))
    path = Path(text).expanduser()
    if path.is_dir():
        return _in_folder(text, path)
    if path.is_file():
        return PlannedModel(name=text, shape=shape_of_gguf(path))
    if is_name(text):
        check_there(store, text)  # which says what there is
    raise InvalidRequest(
        "MODEL",
        f"{text!r} is no model in the store, no folder, no GGUF file and no number of parameters such as 7B",
    )


def _in_folder(text: str, folder: Path) -> PlannedModel:
    if (folder / MANIFEST_NAME).exists():
        manifest = read_manifest(folder)
        return PlannedModel(
            name=text, shape=shape_of_stored(StoredModel(manifest, folder)), manifest=manifest
        )
    if (folder / MODEL_NAME).exists():
        return PlannedModel(name=text, shape=shape_of_folder(folder))
    if (folder / CONFIG_FILE).exists():
        return PlannedModel(name=text, shape=shape_of_checkpoint(folder))
    raise InvalidRequest("MODEL", f"the folder {text} has neither {MODEL_NAME} nor {CONFIG_FILE}")
