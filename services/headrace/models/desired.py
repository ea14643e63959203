"""The desired state as an operator changes and sees it: what is wanted, and how far each node is with it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from nats.aio.client import Client

from headrace.contract.deployments import (
    ANY,
    DEPLOY,
    MAX_REPLICAS,
    NODE,
    WORKER,
    Assignment,
    ModelState,
    NodeModel,
    NodeReport,
    Wish,
)
from headrace.contract.deployments_document import (
    DEVICES,
    read_assigned,
    read_report,
    read_wish,
    write_document,
)
from headrace.contract.errors import HeadraceError, InvalidRequest, Unavailable
from headrace.contract.references import Reference, parse_reference
from headrace.contract.subjects import MEMBERS_BUCKET, MODELS_BUCKET
from headrace.models.bucket import FilesBucket
from headrace.models.errors import DamagedObject, ModelInUse, ModelNotFound
from headrace.models.manifest import Manifest
from headrace.models.push import pushed_manifest, pushed_version, remove_pushed
from headrace.models.store import ModelStore
from headrace.models.words import words_digest
from headrace.runtime.kv_view import read_bucket, write_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which nodes a model is wanted, and how."""

    labels: Mapping[str, str] = field(default_factory=dict)
    device: str = ANY
    replicas: int = 1
    """0 = on each node that can have it."""
    compute_type: str = ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What was written."""

    wish: Wish
    pushed: bool
    """Whether nodes that do not have it can fetch it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A model on a node, or nowhere: then `node` is ""."""

    reference: str
    version: str
    node: str
    model: NodeModel | None
    """What the node says of it; None = nothing."""
    wanted: bool
    reason: str = ""
    """Why it is nowhere."""

    @property
    def state(self) -> ModelState:
        return ModelState.ABSENT if self.model is None else self.model.state


async def deploy(nc: Client, store: ModelStore, reference: str, terms: Terms) -> Deployed:
    """Wants a model from now on, in the place of an earlier wish for the same reference.

    A bare name is wanted in the version that was pushed last, or else as this machine's store has it; what is wanted
    stays at that version until it is deployed again. Raises InvalidRequest, ModelNotFound, DamagedObject, Unavailable.
    """
    _check_terms(terms)
    asked, bucket = parse_reference(reference, "reference"), FilesBucket(nc)
    manifest, pushed = await _find(bucket, store, asked)
    wish = Wish(
        reference=f"{asked.name}@{manifest.version}" if asked.version else asked.name,
        version=manifest.version,
        size=manifest.size,
        labels=dict(terms.labels),
        device=terms.device,
        replicas=terms.replicas,
        compute_type=terms.compute_type,
        asked_s=time.time(),
    )
    former = (await wishes(nc)).get(wish.reference)
    if former is not None and former.version != wish.version:
        await _check_words(bucket, former, manifest)
    await write_key(nc, MODELS_BUCKET, wish.key, write_document(wish))
    return Deployed(wish=wish, pushed=pushed)


async def undeploy(nc: Client, reference: str) -> Wish:
    """Wants a model no more. Raises ModelNotFound, InvalidRequest, Unavailable."""
    asked, there = parse_reference(reference, "reference"), await wishes(nc)
    found = [
        wish
        for wish in there.values()
        if (wish.reference == asked.name if not asked.version else wish.reference.startswith(str(asked)))
    ]
    if not found:
        raise ModelNotFound(reference, f"is not deployed; deployed are: {', '.join(sorted(there)) or 'none'}")
    if len(found) > 1:
        raise InvalidRequest("reference", f"may be {', '.join(w.reference for w in found)}: give more digits")
    await write_key(nc, MODELS_BUCKET, found[0].key, None)
    return found[0]


async def remove_from_bucket(nc: Client, reference: str) -> str:
    """Takes a version out of the object store; which one it was. Raises ModelNotFound, ModelInUse where it is
    wanted.
    """
    asked, bucket = parse_reference(reference, "reference"), FilesBucket(nc)
    version = await pushed_version(bucket, asked.name, asked.version)
    manifest = await pushed_manifest(bucket, asked.name, version) if version else None
    if manifest is None:
        raise ModelNotFound(reference, "is not in the NATS object store")
    exact = f"{asked.name}@{manifest.version}"
    using = [wish.reference for wish in (await wishes(nc)).values() if wish.exact == exact]
    if using:
        raise ModelInUse(exact, f"it is deployed; first: headrace model undeploy {using[0]}")
    await remove_pushed(bucket, manifest)
    return exact


async def wishes(nc: Client) -> Mapping[str, Wish]:
    """By reference. What is malformed is left out; routers tell of it."""
    found = {}
    for body in (await read_bucket(nc, MODELS_BUCKET, DEPLOY)).values():
        with suppress(ValueError):
            wish = read_wish(body)
            found[wish.reference] = wish
    return found


async def places(nc: Client) -> Sequence[Place]:
    """Each model on each node, by model and node: those that are wanted, and those of the nodes' own settings."""
    wanted, given, reports = await wishes(nc), await _given(nc), await _reports(nc)
    found: dict[tuple[str, str], Place] = {}
    for node, assignments in given.items():
        for assignment in assignments:
            found[assignment.reference, node] = Place(
                reference=assignment.reference,
                version=assignment.version,
                node=node,
                model=None,
                wanted=True,
                reason="" if node in reports else "the node does not report",
            )
    for report in reports.values():
        for model in report.models:
            at = (model.reference, report.node)
            if at not in found or found[at].version == model.version or model.own:
                found[at] = Place(
                    reference=model.reference,
                    version=model.version,
                    node=report.node,
                    model=model,
                    wanted=at in found,
                )
    reasons = await _reasons(nc)
    there = {place.reference for place in found.values() if place.wanted}
    for wish in wanted.values():
        if wish.reference not in there:
            found[wish.reference, ""] = Place(
                reference=wish.reference,
                version=wish.version,
                node="",
                model=None,
                wanted=True,
                reason=reasons.get(wish.reference, "no router has placed it yet"),
            )
    return [found[at] for at in sorted(found)]


async def nodes(nc: Client) -> Sequence[NodeReport]:
    """All that report, by name."""
    reports = await _reports(nc)
    return [reports[name] for name in sorted(reports)]


async def _find(bucket: FilesBucket, store: ModelStore, asked: Reference) -> tuple[Manifest, bool]:
    """What is meant, and whether it is pushed."""
    version = await pushed_version(bucket, asked.name, asked.version)
    if version is not None and (manifest := await pushed_manifest(bucket, asked.name, version)) is not None:
        return manifest, True
    try:
        return store.open(str(asked)).manifest, False
    except InvalidRequest:
        raise ModelNotFound(
            str(asked),
            f"is neither pushed nor in {store.root}; headrace model push puts a model into the mesh",
        ) from None


async def _check_words(bucket: FilesBucket, former: Wish, manifest: Manifest) -> None:
    """What waits for a name was tokenised for its version: it can change only to one of the same words."""
    try:
        before = await pushed_manifest(bucket, manifest.name, former.version)
    except (DamagedObject, Unavailable):
        return
    if before is not None and words_digest(before) != words_digest(manifest):
        raise InvalidRequest(
            "reference",
            f"{manifest.name} is deployed as {former.version}, whose task, tokeniser, template or context length"
            f" differs from {manifest.version}'s: deploy {manifest.name}@{manifest.version} beside it, and undeploy"
            f" {manifest.name} when nobody asks for it any more",
        )


def _check_terms(terms: Terms) -> None:
    if terms.device not in DEVICES:
        raise InvalidRequest("device", f"must be one of {', '.join(DEVICES)}")
    if not 0 <= terms.replicas <= MAX_REPLICAS:
        raise InvalidRequest("replicas", f"must lie in 0 … {MAX_REPLICAS} (was {terms.replicas})")
    if not (terms.compute_type.isascii() and terms.compute_type.replace("_", "").isalnum()):
        raise InvalidRequest("compute_type", "must be letters and digits, such as int8 or float16")


async def _given(nc: Client) -> Mapping[str, Sequence[Assignment]]:
    given = {}
    for key, body in (await read_bucket(nc, MODELS_BUCKET, NODE)).items():
        with suppress(ValueError):
            given[key.removeprefix(NODE)] = read_assigned(body).models
    return given


async def _reports(nc: Client) -> Mapping[str, NodeReport]:
    reports = {}
    for body in (await read_bucket(nc, MEMBERS_BUCKET, WORKER)).values():
        with suppress(ValueError):
            report = read_report(body)
            reports[report.node] = report
    return reports


async def _reasons(nc: Client) -> Mapping[str, str]:
    """Why what is nowhere is so, as the router says that places models."""
    try:
        kv = await nc.jetstream().key_value(MEMBERS_BUCKET)
        said = json.loads((await kv.get("placer")).value or b"{}").get("waiting", {})
    except (ValueError, AttributeError, HeadraceError):
        return {}
    except Exception:  # the library's errors for a key that is not there are many
        return {}
    return {str(reference): str(reason) for reference, reason in said.items()}
