"""What the router counts and measures. Once per request or batch, never per token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from headrace.contract.admin import Member
from headrace.contract.subjects import Queue, parse_queue
from headrace.contract.values import Outcome, OutcomeKind, Priority
from headrace.contract.work import StartBatch
from headrace.router.core.events import Event, Progressed
from headrace.router.gateways import Gateways
from headrace.router.ledger import Ledger, Record
from headrace.runtime import metric_names as names
from headrace.runtime import trace_names
from headrace.runtime.metrics import Metrics
from headrace.runtime.tally import Labels

LOOK_S = 0.1
"""For so long a look at the queues serves all that is read of it: figures are read once a second."""
DECISIONS = 10
"""One decision of so many is measured: there are several to a request, and as good a distribution costs a tenth."""
_INPUT: Final = "input"
_OUTPUT: Final = "output"
_SHED: Final = "OVERLOADED"
"""The code of what was refused because it would have come too late: only the scheduler ends a request with it."""


class RouterMetrics:
    """Records what happens at the router. Used on the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._outcomes = metrics.tally(names.OUTCOMES)
        self._tenant_outcomes = metrics.tally(names.TENANT_OUTCOMES)
        self._tokens = metrics.tally(names.TOKENS_USED)
        self._shed = metrics.tally(names.SHED)
        self._retries = metrics.tally(names.RETRIES)
        self._regroups = metrics.tally(names.REGROUPS)
        self._dead = metrics.tally(names.DEAD_LETTERS)
        self._pauses = metrics.tally(names.PAUSES)
        self._duration = metrics.histogram(names.REQUEST_DURATION)
        self._first_token = metrics.histogram(names.TIME_TO_FIRST_TOKEN)
        self._per_token = metrics.histogram(names.TIME_PER_OUTPUT_TOKEN)
        self._usage = metrics.histogram(names.TOKEN_USAGE)
        self._wait = metrics.histogram(names.QUEUE_WAIT)
        self._estimate_error = metrics.histogram(names.ESTIMATE_ERROR)
        self._batch_size = metrics.histogram(names.BATCH_SIZE)
        self._decision = metrics.histogram(names.DECISION)
        self._decisions = 0
        self._intake = metrics.histogram(names.INTAKE)
        self._settling = metrics.histogram(names.SETTLING)

    # One event.

    def decided(self, event: Event, began_s: float) -> None:
        """The scheduler is through with an event that came at `began_s` of the performance counter."""
        if self._decision.on and not isinstance(event, Progressed):
            self._decisions += 1
            if self._decisions % DECISIONS == 0:
                self._decision.record(time.perf_counter() - began_s, type(event).__name__)

    # One request.

    def held(self, record: Record) -> None:
        """Intake is through with it."""
        self._intake.record(max(0.0, time.time() - record.waiting_since_s), trace=record.trace)

    def assigned(self, record: Record, now_s: float) -> None:
        """A lane took it for the first time."""
        request = record.request
        waited_s = max(0.0, now_s - record.accepted_s)
        self._wait.record(waited_s, request.model, request.priority.label, trace=record.trace)
        if record.estimate is not None:
            told_s, wait_s = record.estimate
            error_s = now_s - told_s - wait_s
            way = "longer" if error_s > 0 else "shorter"
            self._estimate_error.record(abs(error_s), request.priority.label, way, trace=record.trace)

    def started(self, batch: StartBatch) -> None:
        """A batch begins."""
        self._batch_size.record(len(batch.entries), batch.model, trace=batch.entries[0].trace)

    def paused(self) -> None:
        """A batch has to wait for more urgent work."""
        self._pauses.add()

    def retried(self, record: Record) -> None:
        """It waits again."""
        self._retries.add(record.request.model, record.request.priority.label)

    def regrouped(self, record: Record) -> None:
        """It goes on in a larger batch."""
        self._regroups.add(record.request.model)

    def settled(self, record: Record, began_s: float) -> None:
        """Its end took since the Unix time `began_s` to become durable and acknowledged."""
        self._settling.record(max(0.0, time.time() - began_s), trace=record.trace)

    def buried(self, code: str) -> None:
        """A dead letter is kept."""
        self._dead.add(code)

    def ended(self, record: Record, outcome: Outcome) -> None:
        """It has its outcome."""
        model, priority, tenant = record.request.model, record.request.priority.label, record.tenant
        code = outcome.failure.code if outcome.failure is not None else ""
        self._outcomes.add(outcome.kind.value, model, priority, code)
        self._tenant_outcomes.add(tenant, outcome.kind.value)
        if outcome.kind is OutcomeKind.REJECTED and code == _SHED:
            self._shed.add(model, priority)
        usage = outcome.usage
        if usage.prompt_tokens:
            self._tokens.add(tenant, model, _INPUT, by=usage.prompt_tokens)
        if usage.output_tokens:
            self._tokens.add(tenant, model, _OUTPUT, by=usage.output_tokens)
        if self._duration.on:
            self._measure(record, outcome, code)

    def refused(self, queue: Queue, code: str) -> None:
        """A message of that queue held no request, and has its outcome."""
        kind = OutcomeKind.REJECTED.value
        self._outcomes.add(kind, queue.model, queue.priority.label, code)
        self._tenant_outcomes.add(queue.tenant, kind)

    def _measure(self, record: Record, outcome: Outcome, code: str) -> None:
        operation, provider = (
            trace_names.operation_of(record.request.task.value),
            trace_names.PROVIDER_HEADRACE,
        )
        model, priority = record.request.model, record.request.priority.label
        usage, trace = outcome.usage, record.trace
        self._duration.record(usage.total_s, operation, provider, model, priority, code, trace=trace)
        if usage.prompt_tokens:
            self._usage.record(usage.prompt_tokens, operation, provider, model, _INPUT, trace=trace)
        if not usage.output_tokens:
            return
        self._usage.record(usage.output_tokens, operation, provider, model, _OUTPUT, trace=trace)
        if usage.first_token_s:
            self._first_token.record(usage.first_token_s, operation, provider, model, priority, trace=trace)
            if outcome.kind is OutcomeKind.COMPLETED and usage.output_tokens > 1:
                per_token_s = (usage.total_s - usage.first_token_s) / (usage.output_tokens - 1)
                self._per_token.record(per_token_s, operation, provider, model, priority, trace=trace)


def watch_router(
    metrics: Metrics,
    *,
    ledger: Ledger,
    waits: Callable[[str], bool],
    served: Callable[[], Iterable[str]],
    backlogs: Callable[[], Mapping[str, int]],
    workers: Callable[[], tuple[Member, ...]],
    gateways: Gateways,
) -> None:
    """Has the router's queues and lanes read. `waits` says whether a held request is on no lane, `served` which models
    have lanes, `backlogs` what waits in the broker by subject.
    """
    look = _Look(ledger, waits, served, backlogs)
    metrics.watch(names.HELD, lambda: {(): len(ledger)})
    metrics.watch(names.QUEUE_WAITING, lambda: look.now().waiting)
    metrics.watch(names.QUEUE_AGE, lambda: look.now().age_s, merge=max)
    metrics.watch(names.QUEUE_BACKLOG, lambda: look.now().backlog)
    metrics.watch(names.LANES, lambda: _lanes(workers()))
    metrics.watch(names.WORKERS, lambda: _workers(workers()))
    metrics.watch(names.GATEWAYS, lambda: {(): len(gateways)})
    metrics.watch(names.PENDING, lambda: {(): gateways.pending})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Queues:
    """By model and class. A queue in which nothing waits is told of, too."""

    waiting: Mapping[Labels, float]
    age_s: Mapping[Labels, float]
    backlog: Mapping[Labels, float]


class _Look:
    """One look at all that waits, which may be ten thousand requests, for all that is told of it."""

    def __init__(
        self,
        ledger: Ledger,
        waits: Callable[[str], bool],
        served: Callable[[], Iterable[str]],
        backlogs: Callable[[], Mapping[str, int]],
    ) -> None:
        self._ledger = ledger
        self._waits = waits
        self._served = served
        self._backlogs = backlogs
        self._last: _Queues | None = None
        self._looked_s = 0.0

    def now(self) -> _Queues:
        """As it is, or was a moment ago."""
        now_s = time.monotonic()
        if self._last is None or now_s - self._looked_s > LOOK_S:
            self._last, self._looked_s = self._take(time.time()), now_s
        return self._last

    def _take(self, now_s: float) -> _Queues:
        backlog = _backlogs(self._backlogs())
        served = [(model, priority.label) for model in self._served() for priority in Priority]
        waiting: dict[Labels, float] = dict.fromkeys([*served, *backlog], 0.0)
        age_s = dict(waiting)
        for record in self._ledger:
            if self._waits(record.id):
                queue = (record.request.model, record.request.priority.label)
                waiting[queue] = waiting.get(queue, 0) + 1
                age_s[queue] = max(age_s.get(queue, 0), now_s - record.accepted_s)
        return _Queues(waiting=waiting, age_s=age_s, backlog=dict.fromkeys(waiting, 0.0) | backlog)


def _backlogs(by_subject: Mapping[str, int]) -> dict[Labels, float]:
    found: dict[Labels, float] = {}
    for subject, count in by_subject.items():
        queue = parse_queue(subject)
        place = (queue.model, queue.priority.label)
        found[place] = found.get(place, 0) + count
    return found


def _lanes(workers: tuple[Member, ...]) -> dict[Labels, float]:
    """Free is what could begin a batch now: a spare lane could not, while all slots are taken."""
    running = sum(worker.busy_lanes - worker.paused_lanes for worker in workers)
    open_slots = sum(
        max(0, min(w.slots - (w.busy_lanes - w.paused_lanes), w.lanes - w.busy_lanes))
        for w in workers
        if not w.draining
    )
    paused = sum(worker.paused_lanes for worker in workers)
    return {("running",): running, ("paused",): paused, ("free",): open_slots}


def _workers(workers: tuple[Member, ...]) -> dict[Labels, float]:
    draining = sum(worker.draining for worker in workers)
    return {("serving",): len(workers) - draining, ("draining",): draining}
