"""Embedding through the mesh, against the engine's best on the same texts."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

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
from tests.prove.neighbours import Neighbours

_SENTENCE = (
    "the water wheel turns and a river carries small stones from one mill to another in the early morning while people"
    " write letters at their tables near the window and children read music for a quiet winter market in other towns"
)
WORDS = _SENTENCE.split()
TEXTS = 6_144
A_REQUEST = 128
MANY, FEW = 16, 4
"""Requests at once: enough for whatever the mesh can do, as the engine has all texts at once, too; and hardly more than
lanes, so that each answer is waited for.
"""
PIECES = (256, 384, 512, 1024)
"""Tokens that the engine is given at once when it is asked directly: the best counts."""
TRIED = 2_048
"""Texts by which the best is found."""
PAIRS = 4
"""Of runs through the mesh and one directly, in turn: the median ratio counts, as machines have moods."""
QUIET = 0.05
"""Of the machine: a pair in which others took more of it says nothing, and is measured again."""
MOST_PAIRS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same texts, a moment apart."""

    mesh: float
    """Texts a second, asked by many."""
    few: float
    """The same, asked by few."""
    direct: float
    strangers: float
    """What others took of the machine meanwhile, 0 … 1."""

    @property
    def ratio(self) -> float:
        return self.mesh / self.direct


async def embed(folder: Path) -> Mapping[str, float]:
    """All texts in requests of 128, many at once, and then few; directly, all are known beforehand, tokenised and
    sorted, and the best size of a piece is taken. Each uses all cores, and the others idle meanwhile.
    """
    root = Path(os.environ.get("HEADRACE_MODELS") or default_root())
    store = ModelStore(root.with_name(f"{root.name}-minilm"))
    await asyncio.to_thread(pull, store, "minilm")
    texts = sentences(TEXTS)
    async with (
        Processes(folder, models=store.root) as mesh,
        HeadraceClient(mesh.address) as client,
    ):
        await through(client, texts[:TRIED], MANY)  # all lanes have run once
        direct = await asyncio.to_thread(Direct, store, texts)
        try:
            pairs, vectors = await measure(client, texts, direct)
        finally:
            await asyncio.to_thread(direct.close)
    apart = np.abs(_numbers(vectors) - _numbers(direct.vectors)).max()
    return {
        "texts_per_s": median(pair.mesh for pair in pairs),
        "direct": median(pair.direct for pair in pairs),
        "piece": float(direct.piece),
        "pairs": float(len(pairs)),
        "ratio": median(pair.ratio for pair in pairs),
        "ratio_few": median(pair.few / pair.direct for pair in pairs),
        "lowest": min(pair.ratio for pair in pairs),
        "highest": max(pair.ratio for pair in pairs),
        "strangers": max(pair.strangers for pair in pairs),
        "apart": float(apart),
    }


async def measure(
    client: HeadraceClient, texts: Sequence[str], direct: Direct
) -> tuple[list[Pair], list[Vector]]:
    """Pairs on a quiet machine, or what there is after `MOST_PAIRS` of them; and the mesh's vectors."""
    pairs: list[Pair] = []
    vectors: list[Vector] = []
    for _ in range(MOST_PAIRS):
        others = Neighbours()
        mesh, vectors = await through(client, texts, MANY)
        rate = await asyncio.to_thread(direct.run)
        few, _ = await through(client, texts, FEW)
        pairs.append(Pair(mesh=mesh, few=few, direct=rate, strangers=others.share()))
        print(
            f"  mesh {mesh:.0f}, asked by few {few:.0f}, direct {rate:.0f} texts/s;"
            f" others took {pairs[-1].strangers:.0%}",
            flush=True,
        )
        if len(quiet := [pair for pair in pairs if pair.strangers <= QUIET]) >= PAIRS:
            return quiet, vectors
    return pairs, vectors


def sentences(count: int) -> list[str]:
    """Of 3 to 120 words, most of them of some twenty."""
    rng = random.Random(17)
    lengths = [min(120, max(3, round(rng.lognormvariate(3.0, 0.7)))) for _ in range(count)]
    return [" ".join(rng.choice(WORDS) for _ in range(length)).capitalize() + "." for length in lengths]


async def through(client: HeadraceClient, texts: Sequence[str], at_once: int) -> tuple[float, list[Vector]]:
    """Texts per second through the mesh, and the vectors."""
    began_s = time.perf_counter()
    requests = [texts[at : at + A_REQUEST] for at in range(0, len(texts), A_REQUEST)]
    found: dict[int, tuple[Vector, ...]] = {}
    left = iter(range(len(requests)))

    async def ask() -> None:
        for number in left:
            found[number] = (await client.embed(requests[number], model="minilm")).vectors

    await asyncio.gather(*(ask() for _ in range(at_once)))
    rate = len(texts) / (time.perf_counter() - began_s)
    return rate, [vector for number in range(len(requests)) for vector in found[number]]


class Direct:
    """The engine without a mesh: in this process, on all cores, with the best size of a piece."""

    def __init__(self, store: ModelStore, texts: Sequence[str]) -> None:
        """Blocks: loads the model, and tries the sizes."""
        device = find_device("cpu", EngineInventory())
        self._lanes = device.cores
        placing = Placing(device=device, compute_type="auto", lanes=self._lanes, threads_per_lane=1)
        model, stored = load_model(store, "minilm", placing), store.open("minilm")
        assert model.encoder is not None
        self._encoder = model.encoder
        self._ids = Framing.of(stored.manifest, Tokeniser.load(stored)).texts(texts)
        some = self._ids[:TRIED]
        run(self._encoder, some, max(PIECES), self._lanes)  # all lanes have run once
        rates = {size: run(self._encoder, some, size, self._lanes)[0] for size in PIECES}
        self.piece = max(rates, key=rates.__getitem__)
        self.vectors: list[Vector] = []

    def run(self) -> float:
        """Texts per second."""
        rate, self.vectors = run(self._encoder, self._ids, self.piece, self._lanes)
        return rate

    def close(self) -> None:
        self._encoder.close()


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
