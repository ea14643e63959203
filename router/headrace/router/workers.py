"""The workers' `Work` streams: who is there, and what they say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import structlog

from headrace.contract.admin import DrainBegun, Member
from headrace.contract.costs import MAX_COST_S, check_cost
from headrace.contract.errors import MalformedMessage, Unavailable
from headrace.contract.log_level import LogLevel
from headrace.contract.references import is_reference
from headrace.contract.subjects import is_name
from headrace.contract.values import FLOAT_BYTES, Failure, Vector
from headrace.contract.work import (
    ComingModel,
    EntryProgress,
    Peer,
    RouterMessage,
    ServedModel,
    StartBatch,
    WorkerJoin,
    WorkerMessage,
)
from headrace.router.core import events as ev
from headrace.router.worker_link import WorkerLink

log = structlog.get_logger(__name__)

MAX_LANES = 1024
MAX_BATCH = 512
MAX_MODELS = 1024
"""More of each is no worker of ours."""
DEVICES = ("cpu", "cuda")
NO_END = Failure(code="MALFORMED_MESSAGE", message="its worker ended it without a reason")
NO_VECTORS = Failure(code="MALFORMED_MESSAGE", message="its worker sent vectors that are none")
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ADDRESS = re.compile(r"[A-Za-z0-9._:\[\]%-]{1,255}:[0-9]{1,5}")


class Workers:
    """The links, by worker id; turns what workers say into the core's events."""

    def __init__(
        self,
        router_id: str,
        *,
        timeout_s: float,
        serves: Callable[[str, str], bool],
        tell: Callable[[ev.Event], None],
        on_offer: Callable[[], None] = lambda: None,
        on_spans: Callable[[str, bytes], None] = lambda worker, spans: None,
    ) -> None:
        """`serves` says whether this router holds a model in that version, or one with the same words; `on_offer` is
        called where a worker has one that it does not; `on_spans(worker's name, bundle)` takes what a worker tells of
        spans that have ended there.
        """
        self._router_id = router_id
        self._timeout_s = timeout_s
        self._serves = serves
        self._on_offer = on_offer
        self._tell = tell
        self._on_spans = on_spans
        self._links: dict[str, WorkerLink] = {}
        self._peers: tuple[Peer, ...] = ()
        self._leaving = False

    def __len__(self) -> int:
        return len(self._links)

    def start(self, worker: str, batch: StartBatch) -> None:
        self._links[worker].run(batch)

    def pause(self, worker: str, batch: int) -> None:
        if (link := self._links.get(worker)) is not None:
            link.hold(batch)

    def resume(self, worker: str, batch: int) -> None:
        if (link := self._links.get(worker)) is not None:
            link.go_on(batch)

    def stop(self, worker: str, assignment: int) -> None:
        if (link := self._links.get(worker)) is not None:
            link.cancel.append(assignment)
            link.ready.set()

    def name_of(self, worker: str) -> str:
        """What people call it; its id where it has gone."""
        link = self._links.get(worker)
        return worker if link is None else link.join.name

    def members_of(self, worker: str, batch: int) -> tuple[str, ...]:
        """The requests of a batch that runs there, by id."""
        link = self._links.get(worker)
        return () if link is None else link.members_of(batch)

    def tell_peers(self, peers: tuple[Peer, ...]) -> None:
        """Tells every worker, now and as it joins, which routers live: where to go when this one is lost."""
        if peers == self._peers:
            return
        self._peers = peers
        for link in self._links.values():
            link.peers = peers
            link.ready.set()

    def leave(self) -> None:
        """Tells every worker that this router goes; others that come are sent on."""
        self._leaving = True
        for link in self._links.values():
            link.router_leaves = True
            link.ready.set()

    def links(self) -> dict[str, WorkerLink]:
        """By worker id, to be looked at."""
        return dict(self._links)

    def members(self) -> tuple[Member, ...]:
        """As operators see them."""
        return tuple(link.member(self._router_id) for link in self._links.values())

    def drain(self, name: str) -> DrainBegun | None:
        """Has the workers of that name drain and end; what is said to an operator, None where there is none."""
        begun: DrainBegun | None = None
        for link in self._links.values():
            if link.join.name == name:
                begun = DrainBegun(member=link.member(self._router_id), grace_s=link.join.drain_grace_s)
                link.leave = True
                link.ready.set()
        return begun

    def log_level(self, name: str, level: LogLevel) -> Member | None:
        """Has the workers of that name log so much; one of them, None where there is none."""
        told: Member | None = None
        for link in self._links.values():
            if link.join.name == name:
                told = link.member(self._router_id)
                link.log_level = level
                link.ready.set()
        return told

    async def serve(self, messages: AsyncIterator[WorkerMessage]) -> AsyncIterator[RouterMessage]:
        """Both directions of one worker's stream, until it breaks.

        Raises MalformedMessage where it makes no sense, Unavailable where this router goes.
        """
        if self._leaving:
            raise Unavailable("router", "it drains: join another")
        first = await anext(messages, None)
        if first is None or first.join is None:
            raise MalformedMessage("WorkerMessage.join", "must come first")
        link = self._admit(first.join)
        reader = asyncio.create_task(self._read(link, messages), name=f"worker {link.join.name}: read")
        try:
            yield RouterMessage(welcome=self._router_id, peers=self._peers or None)
            while True:
                began_s = self._now()
                ready = asyncio.ensure_future(link.ready.wait())
                try:
                    await asyncio.wait(
                        {ready, reader}, timeout=self._timeout_s / 4, return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    ready.cancel()
                if reader.done():
                    reader.result()
                    return
                if self._now() - began_s > self._timeout_s / 2:
                    # This router stood still itself: what the worker said meanwhile is yet to be read.
                    link.heard_s = self._now()
                if self._now() - link.heard_s > self._timeout_s:
                    log.warning("worker.silent", worker=link.join.name, timeout_s=self._timeout_s)
                    return  # it hangs: a living one says something several times within the timeout
                if link.ready.is_set():
                    yield link.take()
        finally:
            reader.cancel()
            self._dismiss(link)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _admit(self, join: WorkerJoin) -> WorkerLink:
        _check_join(join)
        if (old := self._links.get(join.worker_id)) is not None:
            self._dismiss(old)  # it came back before its old stream was seen to break
        served = frozenset(model.name for model in join.models if self._serves(model.name, model.version))
        offered = {model.name: model for model in join.models}
        link = self._links[join.worker_id] = WorkerLink(join, offered, served, self._now())
        link.leftover.update(join.busy_lanes)
        self._tell_not_served(link, join.models)
        self._tell(
            ev.WorkerJoined(
                worker=join.worker_id,
                lanes=join.lanes,
                slots=join.slots,
                max_batch=join.max_batch,
                models=served,
                costs={
                    model.name: model.cost
                    for model in join.models
                    if model.name in served and model.cost is not None
                },
                tasks={model.name: model.task for model in join.models if model.name in served},
                busy=frozenset(join.busy_lanes),
            )
        )
        log.info(
            "worker.joined",
            worker=join.name,
            device=join.device.kind,
            lanes=join.lanes,
            slots=join.slots or join.lanes,
            models=sorted(served),
            **({"busy_lanes": sorted(link.leftover)} if link.leftover else {}),
        )
        return link

    def _tell_not_served(self, link: WorkerLink, offered: Iterable[ServedModel]) -> None:
        missing = [model for model in offered if model.name not in link.models]
        for model in missing:
            log.warning(
                "worker.model_not_served",
                worker=link.join.name,
                model=model.name,
                worker_version=model.version,
                remedy="router and worker must hold the same model: `headrace model pull` on both, or `headrace model"
                " push` and deploy",
            )
        if missing:
            self._on_offer()

    def offered(self) -> frozenset[tuple[str, str]]:
        """(name, version) of all that workers have loaded, served from here or not."""
        return frozenset(
            (model.name, model.version) for link in self._links.values() for model in link.offered.values()
        )

    def models_changed(self) -> None:
        """What this router holds has changed: what it may give the workers changes with it."""
        for link in self._links.values():
            served = {name for name, model in link.offered.items() if self._serves(name, model.version)}
            for name in sorted(served - link.models):
                self._take_in(link, link.offered[name])
            for name in sorted(link.models - served):
                self._leave_out(link, name)

    def _came(self, link: WorkerLink, came: Sequence[ServedModel]) -> None:
        for model in came:
            _check_model(model)
            link.offered[model.name] = model
            if len(link.offered) > MAX_MODELS:
                raise MalformedMessage("WorkerMessage.came", f"more than {MAX_MODELS} models")
            if self._serves(model.name, model.version):
                self._take_in(link, model)
            elif model.name in link.models:
                self._leave_out(link, model.name)
        self._tell_not_served(link, came)

    def _went(self, link: WorkerLink, went: Sequence[str]) -> None:
        for name in went:
            link.offered.pop(name, None)
            if name in link.models:
                self._leave_out(link, name)
            link.release(name)

    def _take_in(self, link: WorkerLink, model: ServedModel) -> None:
        link.models |= {model.name}
        log.info("worker.model_came", worker=link.join.name, model=model.name, version=model.version)
        self._tell(ev.ModelCame(worker=link.join.worker_id, model=model.name, cost=model.cost))

    def _leave_out(self, link: WorkerLink, name: str) -> None:
        link.models -= {name}
        log.info("worker.model_went", worker=link.join.name, model=name)
        self._tell(ev.ModelWent(worker=link.join.worker_id, model=name))

    def _coming(self, link: WorkerLink, coming: tuple[ComingModel, ...]) -> None:
        if len(coming) > MAX_MODELS or not all(is_reference(model.name) for model in coming):
            raise MalformedMessage(
                "WorkerMessage.coming", f"at most {MAX_MODELS} models, by their references"
            )
        link.coming = coming
        now = self._now()
        at_s = {
            model.name: None if model.ready_in_s is None else now + min(model.ready_in_s, MAX_COST_S)
            for model in coming
        }
        self._tell(ev.ModelsComing(worker=link.join.worker_id, models=at_s))

    def _dismiss(self, link: WorkerLink) -> None:
        if self._links.get(link.join.worker_id) is link:
            del self._links[link.join.worker_id]
            self._tell(ev.WorkerLost(worker=link.join.worker_id))
            log.info("worker.left", worker=link.join.name)

    async def _read(self, link: WorkerLink, messages: AsyncIterator[WorkerMessage]) -> None:
        worker = link.join.worker_id
        async for message in messages:
            if self._links.get(worker) is not link:
                return  # replaced by a newer stream of the same worker
            link.heard_s = self._now()
            if message.spans:
                self._on_spans(link.join.name, message.spans)
            if message.draining:  # first: a lane that this message frees is not for new work
                link.draining = True
                self._tell(ev.WorkerDraining(worker=worker))
            if message.came:
                self._came(link, message.came)
            if message.went:
                self._went(link, message.went)
            if message.coming is not None:
                self._coming(link, message.coming)
            for progress in message.progress:
                if progress.assignment in link.assigned:
                    self._progress(link, progress)
            for ended in message.ended:
                if link.end(ended):
                    self._tell(ev.BatchEnded(worker=worker, lane=ended.lane, batch=ended.batch))
            for lane in message.freed:
                if link.free(lane):
                    self._tell(ev.LaneFreed(worker=worker, lane=lane))

    def _progress(self, link: WorkerLink, progress: EntryProgress) -> None:
        assignment = progress.assignment
        if progress.tokens is not None and progress.tokens.token_ids:
            self._tell(ev.Progressed(assignment=assignment, tokens=progress.tokens))
        end = progress.end
        if end is None:
            return
        link.assigned.discard(assignment)
        if not _are_vectors(progress.vectors):
            self._tell(ev.EntryFailed(assignment=assignment, failure=NO_VECTORS))
        elif end.finish_reason is not None:
            self._tell(
                ev.EntryCompleted(
                    assignment=assignment, finish_reason=end.finish_reason, vectors=progress.vectors
                )
            )
        elif end.cancelled and link.draining:
            self._tell(ev.EntryStopped(assignment=assignment))
        else:
            # An end that nobody asked for is a lost attempt, so that a worker which gives back whatever it gets cannot
            # be given it for ever. One that was asked for is known to the core, which ignores what is said of it.
            self._tell(ev.EntryFailed(assignment=assignment, failure=end.failure or NO_END))


def _are_vectors(vectors: tuple[Vector, ...]) -> bool:
    """Whether all have equally many numbers, at least one."""
    sizes = {len(vector) for vector in vectors}
    return len(sizes) <= 1 and all(size > 0 and size % FLOAT_BYTES == 0 for size in sizes)


def _check_join(join: WorkerJoin) -> None:
    """Raises MalformedMessage where a join is none of a worker of ours. What it says is logged, so it is checked."""
    well_named = _ID.fullmatch(join.worker_id) and is_name(join.name) and join.device.kind in DEVICES
    in_range = 1 <= join.lanes <= MAX_LANES and join.slots <= join.lanes and 1 <= join.max_batch <= MAX_BATCH
    in_range = in_range and all(lane < join.lanes for lane in join.busy_lanes)
    serves = len(join.models) <= MAX_MODELS and all(
        is_reference(model.name) and _ID.fullmatch(model.version) for model in join.models
    )
    found_at = not join.metrics or _ADDRESS.fullmatch(join.metrics)
    if not (well_named and in_range and serves and found_at):
        raise MalformedMessage(
            "WorkerMessage.join",
            f"needs worker_id and name of letters, digits, '_' and '-', a device of {', '.join(DEVICES)},"
            f" 1 … {MAX_LANES} lanes, no more slots than lanes, no busy lane but those, a max_batch of 1 … {MAX_BATCH},"
            f" and at most {MAX_MODELS} models with versions, and metrics at host:port or nowhere",
        )
    for model in join.models:
        _check_cost("WorkerMessage.join.models", model)


def _check_model(model: ServedModel) -> None:
    """Raises MalformedMessage where a model that came is none."""
    if not (is_reference(model.name) and _ID.fullmatch(model.version)):
        raise MalformedMessage("WorkerMessage.came", "a model has a reference and a version")
    _check_cost("WorkerMessage.came", model)


def _check_cost(where: str, model: ServedModel) -> None:
    try:
        if model.cost is not None:
            check_cost(model.cost)
    except ValueError as error:
        raise MalformedMessage(f"{where}[{model.name}].cost", str(error)) from error
