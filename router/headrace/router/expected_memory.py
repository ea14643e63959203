"""What a model takes of a node that has not told it: by the formula of plans and workers, as far as it can be known
here, with one request in one lane. A node with more lanes may still refuse it, and says so.
"""

from __future__ import annotations

from headrace.contract.deployments import ANY, Wish
from headrace.models.errors import UnsupportedModel
from headrace.models.manifest import Manifest
from headrace.models.memory import needed_bytes, planned_lengths
from headrace.models.shape_of_ctranslate2 import shape_of_manifest

FILES_SHARE = 1.15
"""Of the size of its files, for a model of which no more is known."""


def expected_memory_bytes(wish: Wish, manifest: Manifest | None) -> int:
    """`manifest`: of the version that is wanted, None where it is not here yet."""
    by_files = round(wish.size * FILES_SHARE)
    if manifest is None or manifest.task != "generate":
        return by_files
    computed = manifest.quantisation if wish.compute_type == ANY else wish.compute_type
    try:
        shape = shape_of_manifest(manifest)
        context, prompt = planned_lengths(shape.context_length)
        device = "cpu" if wish.device == ANY else wish.device
        return needed_bytes(shape, computed, 1, 1, context, prompt=prompt, device=device).total
    except (UnsupportedModel, ValueError):  # a fake, or an old manifest; a format that there is not
        return by_files
