"""How well clients are told how long they will wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from headrace.client.client import HeadraceClient
from tests.integration.processes import Processes
from tests.prove.answers import real_model
from tests.prove.scheduler.heard import Heard, ask_round
from tests.prove.scheduler.load import MODEL, Shape, requests

CLIENTS = 24
COUNT = 72
SHAPE = Shape(prompts="16-256", outputs="16-64")
LEAST_S = 0.5
"""Who waits for less wants no estimate, and a ratio to it would say nothing."""


async def estimates(folder: Path) -> Mapping[str, float]:
    """A saturated mesh, all of one class. The first estimate that a client heard, against its wait from then until a
    lane took it. Requests that heard none are counted apart.
    """
    model = await asyncio.to_thread(real_model)
    load = requests(model, SHAPE, count=COUNT, seed=41)
    heard: list[Heard] = []
    async with Processes(folder, models=model.path.parent) as mesh, HeadraceClient(mesh.address) as client:
        await ask_round(client, load, MODEL, CLIENTS, heard)
    waits = [(one.estimate_s, _waited_s(one)) for one in heard if _waits(one)]
    errors = [
        (abs(told_s - waited_s), abs(told_s - waited_s) / waited_s) for told_s, waited_s in waits if told_s
    ]
    assert errors, "nobody was told how long it would wait"
    return {
        "relative_error": median(relative for _, relative in errors),
        "absolute_error_s": median(absolute for absolute, _ in errors),
        "compared": float(len(errors)),
        "told_nothing": float(sum(one.estimate_s is None and one.usage.queue_s > LEAST_S for one in heard)),
        "wait_p50_s": median(waited_s for _, waited_s in waits),
    }


def _waited_s(heard: Heard) -> float:
    """From the estimate to the assignment."""
    return heard.usage.queue_s - (heard.estimated_at_s - heard.sent_s)


def _waits(heard: Heard) -> bool:
    return heard.estimate_s is not None and _waited_s(heard) > LEAST_S
