"""The mesh as it was last heard of, as rows of tables: what the page shows, and `headrace top`.

A worker that was lost stays for a while as lost, since that is what somebody who looks on wants to see; one that
drained goes at once. A router that is silent keeps its rows and says since when, and is forgotten after some more time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from headrace.console.rows import (
    Row,
    Table,
    Tables,
    gateway_row,
    model_rows,
    queue_rows,
    router_row,
    worker_row,
)
from headrace.contract.admin import Member
from headrace.contract.state import RouterState, WorkerState

SILENT_AFTER_S = 2.5
"""Some states missed: the router is gone, or stands still, or the broker is away."""
FORGET_ROUTER_S = 10.0
"""A router that was killed is taken for gone by the mesh within this time, too."""
LOST_SHOWN_S = 30.0
"""How long a lost worker stays in the picture."""
FORGET_GATEWAY_S = 6.0
"""Three looks without an answer."""
MAX_ROUTERS, MAX_GATEWAYS, MAX_LOST = 64, 256, 256
"""Anybody may publish states; more than that of each is no mesh of ours, and is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFigures:
    """How full the broker's streams are."""

    requests: int = 0
    """Messages: waiting, running, and on their way."""
    request_bytes: int = 0
    results: int = 0
    dead: int = 0
    """Dead letters."""
    last_dead: int = 0
    """The number of the latest, be it there or not."""


@dataclass(slots=True)
class _Heard:
    state: RouterState
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lost:
    worker: WorkerState
    state: RouterState
    at_s: float


class Picture:
    """Written by the feed, read once a tick. All times are those of `now`, Unix time as this process has it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._routers: dict[str, _Heard] = {}
        self._gateways: dict[str, tuple[Member, float]] = {}
        self._lost: dict[str, _Lost] = {}
        self._broker = BrokerFigures()
        self._connected = False
        self._unheld: dict[str, int] = {}
        """Queues of which all waits in the broker: since when they have been seen so."""

    # What is heard.

    def router_is(self, state: RouterState) -> None:
        """A router has shown itself."""
        heard = self._routers.get(state.router)
        if heard is None and len(self._routers) >= MAX_ROUTERS:
            return
        now = self.now()
        if heard is not None and heard.state.started_s == state.started_s:
            self._note_lost(heard.state, state, now)
        self._routers[state.router] = _Heard(state, now)
        for worker in state.workers:
            self._lost.pop(worker.name, None)

    def _note_lost(self, before: RouterState, after: RouterState, now: float) -> None:
        here = {worker.id for worker in after.workers}
        if after.workers_left_out:
            return  # it may be among those
        for worker in before.workers:
            if worker.id not in here and not worker.draining and len(self._lost) < MAX_LOST:
                self._lost[worker.name] = _Lost(worker=worker, state=before, at_s=now)

    def gateway_is(self, member: Member) -> None:
        """A gateway has answered."""
        if member.id in self._gateways or len(self._gateways) < MAX_GATEWAYS:
            self._gateways[member.id] = (member, self.now())

    def broker_holds(self, figures: BrokerFigures) -> None:
        self._broker = figures

    def broker_is(self, *, connected: bool) -> None:
        self._connected = connected

    # What is seen.

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._connected

    def states(self) -> Iterator[RouterState]:
        """Of the routers that are not silent."""
        now = self.now()
        return (heard.state for heard in self._routers.values() if now - heard.at_s <= SILENT_AFTER_S)

    def gateway_addresses(self) -> tuple[str, ...]:
        """host:port of each that takes calls."""
        found = [member for member, _ in self._gateways.values() if member.address and not member.draining]
        return tuple(member.address for member in sorted(found, key=lambda member: member.id))

    def tables(self) -> Tables:
        """All rows, by table and key."""
        now = self.now()
        self._forget(now)
        routers = sorted(self._routers.values(), key=lambda heard: heard.at_s)
        workers: Table = {}
        for heard in routers:  # the latest word counts, where a worker has changed its router
            for worker in heard.state.workers:
                workers.pop(worker.id, None)
                workers[worker.id] = worker_row(heard.state, worker)
        names = {row["name"] for row in workers.values()}
        for name, lost in self._lost.items():
            if name not in names:
                gone = replace(lost.worker, batches=())
                workers[lost.worker.id] = worker_row(lost.state, gone) | {"lost": round(lost.at_s * 1000)}
        return {
            "mesh": {"mesh": self._mesh_row()},
            "routers": {heard.state.router: self._router(heard, now) for heard in routers},
            "workers": workers,
            "queues": self._queues(routers, now),
            "models": model_rows(heard.state for heard in routers),
            "gateways": {id: gateway_row(member) for id, (member, _) in sorted(self._gateways.items())},
        }

    def _queues(self, routers: Iterable[_Heard], now: float) -> Table:
        """With `since` for those that nobody holds anything of: how old that is only the broker knows, but it is at
        least as old as it has been seen.
        """
        rows = queue_rows(heard.state for heard in routers)
        unheld = {key for key, row in rows.items() if not row["oldest"]}
        self._unheld = {key: self._unheld.get(key, round(now * 1000)) for key in unheld}
        for key, row in rows.items():
            row["since"] = self._unheld.get(key, 0)
        return rows

    def _mesh_row(self) -> Row:
        states = [heard.state for heard in self._routers.values()]
        row: dict[str, Any] = {"connected": self._connected, **asdict(self._broker)}
        row["workers_left_out"] = sum(state.workers_left_out for state in states)
        row["queues_left_out"] = sum(state.queues_left_out for state in states)
        return row

    def _router(self, heard: _Heard, now: float) -> Row:
        silent = now - heard.at_s > SILENT_AFTER_S
        return router_row(heard.state) | {"silent": round(heard.at_s * 1000) if silent else 0}

    def _forget(self, now: float) -> None:
        for router, heard in list(self._routers.items()):
            # While the broker is away nobody can be heard: what was known stays.
            if self._connected and now - heard.at_s > FORGET_ROUTER_S:
                del self._routers[router]
        for gateway, (_, at_s) in list(self._gateways.items()):
            if self._connected and now - at_s > FORGET_GATEWAY_S:
                del self._gateways[gateway]
        for name, lost in list(self._lost.items()):
            if now - lost.at_s > LOST_SHOWN_S:
                del self._lost[name]
