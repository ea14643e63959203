"""A tiny real model, of random weights, in a store; and batches for it and for the fake one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.contract.values import GREEDY, Sampling
from headrace.contract.work import BatchEntry, StartBatch
from headrace.models.gguf_import import import_gguf
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore, StoredModel
from tests.models.tiny_gguf import TinyLlama

CONTEXT = 512


def install_tiny_model(
    store: ModelStore, name: str = "tiny", context_length: int = CONTEXT, **shape: Any
) -> StoredModel:
    """Puts a model that the real engine computes in float32 into the store."""

    def build(folder: Path) -> Manifest:
        source = store.root / "tiny.gguf"
        TinyLlama.random(**shape).write(source, llama__context_length=context_length)
        manifest = import_gguf(
            source,
            folder,
            name=name,
            source="test",
            licence="none",
            progress=lambda done, total: None,
            quantisation="float32",
        )
        source.unlink()
        return manifest

    return store.install(name, build)


def entry(assignment: int, prompt: tuple[int, ...], max_tokens: int = 20, **more: Any) -> BatchEntry:
    """An entry of a request that is called after it."""
    return BatchEntry(
        assignment=assignment,
        request_id=f"request-{assignment}",
        attempt=1,
        prompt=prompt,
        max_tokens=max_tokens,
        **more,
    )


def batch(
    number: int,
    *entries: BatchEntry,
    model: str = "fake",
    lane: int = 0,
    sampling: Sampling = GREEDY,
) -> StartBatch:
    """A batch of them."""
    return StartBatch(batch=number, lane=lane, model=model, sampling=sampling, entries=entries)


def prompt(length: int, first: int = 40) -> tuple[int, ...]:
    """Letters, which mean nothing to either engine."""
    return tuple(first + (7 * index) % 60 for index in range(length))
