"""Room on the disk: what the models may take of it, and which version goes when they need more.

Only versions that came from the broker go by themselves, those that nobody works with and nobody wants, the longest
unused first: they can be fetched again. What a name means was put there by a person, and stays.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from headrace.contract.errors import UnknownModel
from headrace.models.errors import ModelInUse, NoRoom
from headrace.models.store import ModelStore, StoredModel
from headrace.models.uses import claim_unused, last_used_s

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskLimits:
    """`max_bytes` for all versions together, None = as many as fit; `min_free_bytes` are left for others."""

    max_bytes: int | None = None
    min_free_bytes: int = 0


def make_room(
    store: ModelStore, reference: str, needed: int, limits: DiskLimits, *, wanted: Collection[str]
) -> Sequence[str]:
    """Has room for `needed` bytes of a version that is to come, by removing others; `wanted` are the `name@version`
    that stay. Returns what went. Raises NoRoom, and then nothing has gone.
    """
    store.root.mkdir(parents=True, exist_ok=True)
    there = store.versions()
    free = shutil.disk_usage(store.root).free - limits.min_free_bytes
    spare = sum(model.manifest.size for model in there)
    short = needed - free
    if limits.max_bytes is not None:
        short = max(short, spare + needed - limits.max_bytes)
    if short <= 0:
        return ()
    victims = _victims(store, there, short, wanted)
    if victims is None:
        problem = f"the disk has {max(0, free) / 1e6:.0f} MB for it"
        if limits.max_bytes is not None:
            allowed, taken = f"{limits.max_bytes / 1e6:.0f}", f"{spare / 1e6:.0f}"
            problem += f", and store.max_bytes allows {allowed} MB, of which {taken} are taken"
        raise NoRoom(reference, needed, f"{problem}; what else is here is in use, wanted, or has a name")
    gone = []
    for model in victims:
        with contextlib.suppress(
            ModelInUse
        ):  # somebody was faster: what is still missing shows while it is written
            remove_unused(store, model)
            gone.append(model.reference)
            log.info("model.evicted", model=model.reference, for_model=reference)
    return gone


def remove_unused(store: ModelStore, model: StoredModel) -> None:
    """Deletes a version that nobody on this machine works with. Raises ModelInUse."""
    claim = claim_unused(store, model)
    if claim is None:
        raise ModelInUse(
            model.reference, "a worker on this machine has it loaded; undeploy it or stop that first"
        )
    try:
        with contextlib.suppress(UnknownModel):
            store.remove(model.reference)
        (store.root / ".uses" / model.reference).unlink(missing_ok=True)
    finally:
        claim.end()


def _victims(
    store: ModelStore, there: Sequence[StoredModel], short: int, wanted: Collection[str]
) -> Sequence[StoredModel] | None:
    named = {f"{manifest.name}@{manifest.version}" for manifest in store.list()}
    victims: list[StoredModel] = []
    for model in sorted(there, key=lambda model: last_used_s(store, model)):
        if short <= 0:
            break
        if model.reference in wanted or model.reference in named:
            continue
        claim = claim_unused(store, model)
        if claim is None:
            continue
        claim.end()
        victims.append(model)
        short -= model.manifest.size
    return victims if short <= 0 else None
