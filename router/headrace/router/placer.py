"""Gives the nodes what they are to have, so that what is wanted comes true. One router does: the one that leads.

It has no memory of its own: wishes, assignments and what the nodes report are on the broker, and whoever leads next
goes on from there. Two that lead for a moment write the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Protocol

import structlog
from nats.aio.client import Client

from headrace.contract.deployments import (
    ANY,
    NODE,
    WORKER,
    Assigned,
    Assignment,
    ModelState,
    NodeReport,
    Wish,
)
from headrace.contract.deployments_document import read_report, write_document
from headrace.contract.errors import Unavailable
from headrace.contract.subjects import MEMBERS_BUCKET, MODELS_BUCKET
from headrace.router.asked_meter import Asked
from headrace.router.core.placement import Node, Placement, PlacementRules, Want, place
from headrace.router.deployments import Deployments
from headrace.router.lead import Lead
from headrace.runtime.kv_view import KvView, write_key

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
"""How old what it decides by may be."""
CALM_S = 0.05
"""What changes together is looked at together."""
LOAD_BYTES_PER_S = 100e6
"""How fast a model is fetched, verified and loaded, until it has been."""


class Needs(Protocol):
    """What is asked of versions: `headrace.router.needs.Needs`."""

    def look(self, now_s: float, wanted: Collection[str]) -> Mapping[str, Asked]:
        """By reference, since the last look and in the broker."""
        ...

    def held(self, reference: str) -> int:
        """Requests for it that wait here."""
        ...

    def work_s(self, reference: str) -> float:
        """Seconds of a lane that a request for it takes; more than 0."""
        ...

    def memory_bytes(self, wish: Wish) -> int:
        """What it takes of a node, until one has told that."""
        ...


class Placer:
    """Looks at what changed, decides, and writes what a node is to have where that differs."""

    def __init__(
        self,
        connection: Client,
        router_id: str,
        *,
        ttl_s: float,
        rules: PlacementRules,
        grace_s: float,
        deployments: Deployments,
        needs: Needs,
    ) -> None:
        self._connection = connection
        self._ttl_s = ttl_s
        self._rules = rules
        self._grace_s = grace_s
        self._deployments = deployments
        self._needs = needs
        self._lead = Lead(connection, router_id, "placer", ttl_s=ttl_s)
        self._reports = KvView(connection, MEMBERS_BUCKET, WORKER, on_change=self.look_soon)
        self._now = asyncio.Event()
        self._waiting: Mapping[str, str] = {}
        self._known: dict[str, NodeReport] = {}
        self._seen_s: dict[str, float] = {}

    def look_soon(self) -> None:
        """Something changed."""
        self._now.set()

    def renew(self) -> None:
        """There is a new connection."""
        self._reports.renew()

    async def run(self) -> None:
        """Works until cancelled, and then lets another lead."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reports.run(), name="placer: reports")
            tasks.create_task(self._work(), name="placer: work")

    async def _work(self) -> None:
        await self._reports.read.wait()
        await self._deployments.view.read.wait()
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._now.wait()
                await asyncio.sleep(CALM_S)
                self._now.clear()
                try:
                    await self._look()
                except Unavailable as error:
                    log.info("placer.not_written", problem=error.problem)
                except Exception:  # a fault of ours in placing must not end a router, which has requests
                    log.exception("placer.failed")
        finally:
            await self._lead.leave()

    async def _look(self) -> None:
        wishes, given = self._deployments.wishes(), self._deployments.assigned()
        asked = self._needs.look(_now(), wishes.keys())
        if not (wishes or given) or not await self._lead.hold(self._waiting):
            self._seen_s.clear()
            return
        nodes = self._nodes(given, wishes)
        wants = [self._want(wish, asked) for wish in wishes.values()]
        placed = place(wants, nodes, self._rules, time.time())
        self._tell_waiting(placed)
        for name, references in placed.nodes.items():
            await self._write(name, references, wishes, given.get(name, Assigned()))
        for name in given.keys() - placed.nodes.keys():
            # It is gone, or drains: its models are others' now, and when it comes back it is as good as new.
            log.info("placer.node_forgotten", node=name)
            await write_key(self._connection, MODELS_BUCKET, f"{NODE}{name}", None)

    def _nodes(self, given: Mapping[str, Assigned], wishes: Mapping[str, Wish]) -> list[Node]:
        """Who is there, and who is expected back. One that was never heard of is so for as long as one that went."""
        now_s = _now()
        for key, body in self._reports.values.items():
            heard_s = self._reports.heard_s.get(key, now_s)
            if now_s - heard_s <= self._ttl_s:
                with suppress(ValueError):
                    report = read_report(body)
                    self._known[report.node] = report
                    self._seen_s[report.node] = heard_s
        for name in given:
            self._seen_s.setdefault(name, now_s)
        nodes = []
        for name, seen_s in list(self._seen_s.items()):
            if now_s - seen_s > self._ttl_s + self._grace_s:
                self._known.pop(name, None)
                if name not in given:
                    del self._seen_s[name]
                continue
            report = self._known.get(name) or NodeReport(node=name)
            away = name not in self._known or now_s - seen_s > self._ttl_s
            if not report.draining:
                nodes.append(self._node(report, given, wishes, away=away))
        return nodes

    def _want(self, wish: Wish, asked: Mapping[str, Asked]) -> Want:
        those, work_s = asked.get(wish.reference, Asked()), self._needs.work_s(wish.reference)
        return Want(
            reference=wish.reference,
            memory_bytes=self._memory(wish),
            replicas=wish.replicas,
            labels=wish.labels,
            device="" if wish.device == ANY else wish.device,
            value=those.rate * work_s,
            backlog_s=(those.waiting + self._needs.held(wish.reference)) * work_s,
            load_s=wish.size / LOAD_BYTES_PER_S,
            asked_s=wish.asked_s,
        )

    def _memory(self, wish: Wish) -> int:
        measured = [
            model.memory_bytes
            for report in self._known.values()
            for model in report.models
            if (model.reference, model.version) == (wish.reference, wish.version) and model.memory_bytes
        ]
        return max(measured) if measured else self._needs.memory_bytes(wish)

    def _node(
        self, report: NodeReport, given: Mapping[str, Assigned], wishes: Mapping[str, Wish], *, away: bool
    ) -> Node:
        had = given.get(report.node, Assigned()).models
        states = {(model.reference, model.version): model.state for model in report.models}
        failed = {
            reference
            for reference, wish in wishes.items()
            if states.get((reference, wish.version)) is ModelState.FAILED
        }
        loaded = {model.reference for model in report.models if model.state is ModelState.READY}
        wanted = {(reference, wish.version) for reference, wish in wishes.items()}
        own = sum(
            model.memory_bytes
            for model in report.models
            if model.own and (model.reference, model.version) not in wanted  # else it is counted as wanted
        )
        return Node(
            name=report.node,
            memory_bytes=max(0, report.memory_bytes - own),
            labels=report.labels,
            device=report.device,
            given={model.reference: model.since_s for model in had},
            failed=frozenset(failed),
            loaded=frozenset(loaded),
            away=away,
        )

    async def _write(
        self, node: str, references: tuple[str, ...], wishes: Mapping[str, Wish], had: Assigned
    ) -> None:
        before = {model.reference: model for model in had.models}
        models = []
        for reference in references:
            wish, old = wishes[reference], before.get(reference)
            same = old is not None and (old.version, old.compute_type) == (wish.version, wish.compute_type)
            models.append(
                old
                if old is not None and same
                else Assignment(
                    reference=reference,
                    version=wish.version,
                    compute_type=wish.compute_type,
                    since_s=time.time() if old is None else old.since_s,
                )
            )
        assigned = Assigned(models=tuple(models))
        if {m.reference: m for m in assigned.models} != before:
            log.info("placer.assigned", node=node, models=[model.exact for model in models])
            await write_key(self._connection, MODELS_BUCKET, f"{NODE}{node}", write_document(assigned))

    def _tell_waiting(self, placed: Placement) -> None:
        for reference, reason in placed.waiting.items():
            if self._waiting.get(reference) != reason:
                log.warning("placer.no_place", model=reference, problem=reason)
        self._waiting = dict(placed.waiting)


def _now() -> float:
    return asyncio.get_running_loop().time()
