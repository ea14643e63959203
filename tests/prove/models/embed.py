"""Embedding through the mesh, against the engine's best on the same texts."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from headrace.client.client import HeadraceClient
from headrace.contract.values import Vector
from headrace.models.framing import Framing
from headrace.models.pull import pull
from headrace.models.store import ModelStore, default_root
from headrace.models.tokeniser import Tokeniser
from headrace.worker.device import EngineInventory, find_device
from headrace.worker.encoder import Encoder
from headrace.worker.serving import Placing, load_model
from tests.integration.processes import Processes

_SENTENCE = (
    "the water wheel turns and a river carries small stones from one mill to another in the early morning while people"
    " write letters at their tables near the window and children read music for a quiet winter market in other towns"
)
WORDS = _SENTENCE.split()
TEXTS = 6_144
A_REQUEST = 128
CLIENTS = 4
PIECES = (512, 1024)
"""Tokens."""
ROUNDS = 2
"""Of each: the best counts, as other programs only ever take time."""


async def embed(folder: Path) -> Mapping[str, float]:
    """All texts in requests of 128, four at once; directly, all are known beforehand, tokenised and sorted, and the
    best size of a piece is taken.
    """
    root = Path(os.environ.get("HEADRACE_MODELS") or default_root())
    store = ModelStore(root.with_name(f"{root.name}-minilm"))
    await asyncio.to_thread(pull, store, "minilm")
    texts = sentences(TEXTS)
    async with (
        Processes(folder, models=store.root) as mesh,
        HeadraceClient(mesh.address) as client,
    ):
        await through(client, texts[: TEXTS // 12])  # all lanes have run once
        rates: list[float] = []
        vectors: list[Vector] = []
        for _ in range(ROUNDS):
            began_s = time.perf_counter()
            vectors = await through(client, texts)
            rates.append(len(texts) / (time.perf_counter() - began_s))
    best, size, expected = await asyncio.to_thread(directly, store, texts)
    apart = np.abs(_numbers(vectors) - _numbers(expected)).max()
    return {
        "texts_per_s": max(rates),
        "direct": best,
        "piece": float(size),
        "ratio": max(rates) / best,
        "apart": float(apart),
    }


def sentences(count: int) -> list[str]:
    """Of 3 to 120 words, most of them of some twenty."""
    rng = random.Random(17)
    lengths = [min(120, max(3, round(rng.lognormvariate(3.0, 0.7)))) for _ in range(count)]
    return [" ".join(rng.choice(WORDS) for _ in range(length)).capitalize() + "." for length in lengths]


async def through(client: HeadraceClient, texts: Sequence[str]) -> list[Vector]:
    """The vectors of all, from the mesh."""
    requests = [texts[at : at + A_REQUEST] for at in range(0, len(texts), A_REQUEST)]
    found: dict[int, tuple[Vector, ...]] = {}
    left = iter(range(len(requests)))

    async def ask() -> None:
        for number in left:
            found[number] = (await client.embed(requests[number], model="minilm")).vectors

    await asyncio.gather(*(ask() for _ in range(CLIENTS)))
    return [vector for number in range(len(requests)) for vector in found[number]]


def directly(store: ModelStore, texts: Sequence[str]) -> tuple[float, int, list[Vector]]:
    """Texts per second with the best size of a piece, that size, and the vectors."""
    device = find_device("cpu", EngineInventory())
    placing = Placing(device=device, compute_type="auto", lanes=device.cores, threads_per_lane=1)
    model, stored = load_model(store, "minilm", placing), store.open("minilm")
    assert model.encoder is not None
    ids = Framing.of(stored.manifest, Tokeniser.load(stored)).texts(texts)
    try:
        vectors = run(model.encoder, ids, PIECES[-1], placing.lanes)[1]
        rates = {
            piece: max(run(model.encoder, ids, piece, placing.lanes)[0] for _ in range(ROUNDS))
            for piece in PIECES
        }
    finally:
        model.encoder.close()
    size = max(rates, key=rates.__getitem__)
    return rates[size], size, vectors


def run(
    encoder: Encoder, texts: Sequence[Sequence[int]], size: int, lanes: int
) -> tuple[float, list[Vector]]:
    """Texts per second, and the vectors: sorted by length, in pieces of so many tokens, in as many threads as there are
    lanes.
    """
    pieces = iter(cut(texts, size))
    found: list[Vector] = [b""] * len(texts)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                piece = next(pieces, None)
            if piece is None:
                return
            for place, vector in zip(piece, encoder.embed([texts[i] for i in piece]), strict=True):
                found[place] = vector

    threads = [threading.Thread(target=work) for _ in range(lanes)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(texts) / (time.perf_counter() - began_s), found


def cut(texts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """The places of the texts, the longest first, in pieces of at most `tokens`, padded; of one text at least."""
    pieces: list[list[int]] = []
    for place in sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True):
        if not pieces or (len(pieces[-1]) + 1) * len(texts[pieces[-1][0]]) > tokens:
            pieces.append([])
        pieces[-1].append(place)
    return pieces


def _numbers(vectors: Sequence[Vector]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.stack([np.frombuffer(vector, "<f4") for vector in vectors])
