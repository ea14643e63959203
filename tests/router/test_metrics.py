"""What the router counts of a request, and what it tells of its queues and lanes."""

from __future__ import annotations

import time

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from headrace.contract.admin import Member, MemberKind
from headrace.contract.rollout import ShadowCounts
from headrace.contract.static import StaticCounts
from headrace.contract.subjects import Queue
from headrace.contract.values import Failure, OutcomeKind, Priority, Task
from headrace.router.gateways import Gateways
from headrace.router.ledger import Ledger
from headrace.router.metrics import RouterMetrics, watch_router
from headrace.router.rollout_metrics import watch_rollouts
from headrace.runtime import metric_names as names
from headrace.runtime.metric_names import OTHER, Instrument
from headrace.runtime.metrics import Metrics
from tests.router.records import a_record

REJECTED = OutcomeKind.REJECTED


class Exported:
    """Metrics with an exporter that the test reads."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.metrics = Metrics(provider.get_meter("test"))

    def sums(self, instrument: Instrument) -> dict[tuple[str, ...], tuple[int, float]]:
        """By label values, as far as there are some: (how many, their sum)."""
        data = self._reader.get_metrics_data()
        assert data is not None
        points = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == instrument.name
            for point in metric.data.data_points
        ]
        found = {}
        for point in points:
            assert isinstance(point, HistogramDataPoint)
            values = dict(point.attributes or {})
            labels = tuple(str(values[label]) for label in instrument.labels if label in values)
            found[labels] = (point.count, round(point.sum, 6))
        return found


def counted(metrics: Metrics, instrument: Instrument) -> dict[tuple[str, ...], float]:
    return {labels: value for labels, value in metrics.values(instrument).items() if value}


def test_an_ended_request_is_counted_once_by_everything() -> None:
    """Outcome by model and class, tokens by tenant and model, and the four GenAI distributions."""
    exported = Exported()
    record = a_record(made="abcde")
    record.prompt, record.first_token_s = (1, 2, 3), record.accepted_s + 0.5
    outcome = record.outcome(OutcomeKind.COMPLETED, record.accepted_s + 2.5)
    RouterMetrics(exported.metrics).ended(record, outcome)
    metrics, request = exported.metrics, record.request
    model, priority = request.model, request.priority.label
    assert counted(metrics, names.OUTCOMES) == {("completed", model, priority, ""): 1}
    assert counted(metrics, names.TENANT_OUTCOMES) == {(request.tenant, "completed"): 1}
    assert counted(metrics, names.TOKENS_USED) == {
        (request.tenant, model, "input"): 3,
        (request.tenant, model, "output"): 5,
    }
    of = ("generate", "headrace", model)
    assert exported.sums(names.REQUEST_DURATION) == {(*of, priority): (1, 2.5)}
    assert exported.sums(names.TIME_TO_FIRST_TOKEN) == {(*of, priority): (1, 0.5)}
    assert exported.sums(names.TIME_PER_OUTPUT_TOKEN) == {(*of, priority): (1, 0.5)}
    assert exported.sums(names.TOKEN_USAGE) == {(*of, "input"): (1, 3), (*of, "output"): (1, 5)}


@pytest.mark.parametrize(("task", "operation"), [(Task.EMBED, "embeddings"), (Task.TRANSLATE, "translate")])
def test_a_request_is_measured_as_what_it_is(task: Task, operation: str) -> None:
    """By the conventions' word for its task; what embeds makes no tokens, and so has no first one."""
    exported = Exported()
    record = a_record(task=task, prompt="", texts=("a", "b")) if task is Task.EMBED else a_record(task=task)
    record.texts, record.prompt = (((1, 2), (3,)), ()) if task is Task.EMBED else ((), (1, 2, 3))
    RouterMetrics(exported.metrics).ended(
        record, record.outcome(OutcomeKind.COMPLETED, record.accepted_s + 2.5)
    )
    of = (operation, "headrace", record.request.model)
    assert exported.sums(names.REQUEST_DURATION) == {(*of, record.request.priority.label): (1, 2.5)}
    assert exported.sums(names.TOKEN_USAGE) == {(*of, "input"): (1, 3)}
    assert exported.sums(names.TIME_TO_FIRST_TOKEN) == {}


@pytest.mark.parametrize(
    ("kind", "code", "shed"),
    [
        (OutcomeKind.REJECTED, "OVERLOADED", 1),
        (OutcomeKind.REJECTED, "INVALID_REQUEST", 0),
        (OutcomeKind.EXPIRED, "DEADLINE_PASSED", 0),
        (OutcomeKind.FAILED, "TOO_MANY_ATTEMPTS", 0),
    ],
)
def test_what_ends_without_an_answer_says_why(kind: OutcomeKind, code: str, shed: int) -> None:
    """By kind and code; shed is what was refused for being late. Without output there is no time of a token."""
    exported = Exported()
    record = a_record()
    outcome = record.outcome(kind, record.accepted_s + 1, failure=Failure(code=code, message="x"))
    RouterMetrics(exported.metrics).ended(record, outcome)
    labels = (record.request.model, record.request.priority.label)
    assert counted(exported.metrics, names.OUTCOMES) == {(kind.value, *labels, code): 1}
    assert sum(counted(exported.metrics, names.SHED).values()) == shed
    assert counted(exported.metrics, names.TOKENS_USED) == {}
    assert exported.sums(names.TIME_TO_FIRST_TOKEN) == {}
    assert list(exported.sums(names.REQUEST_DURATION)) == [("generate", "headrace", *labels, code)]


def test_a_message_that_held_no_request_is_counted_by_its_queue() -> None:
    """As a request that was refused; nothing is measured of it."""
    exported = Exported()
    queue = Queue(model="fake", priority=Priority.HIGH, tenant="t")
    RouterMetrics(exported.metrics).refused(queue, "MALFORMED_MESSAGE")
    assert counted(exported.metrics, names.OUTCOMES) == {("rejected", "fake", "high", "MALFORMED_MESSAGE"): 1}
    assert counted(exported.metrics, names.TENANT_OUTCOMES) == {("t", "rejected"): 1}


@pytest.mark.parametrize(("waited_s", "error"), [(3.0, ("longer", 1.0)), (0.5, ("shorter", 1.5))])
def test_the_error_of_an_estimate_is_told_by_its_direction(waited_s: float, error: tuple[str, float]) -> None:
    """Against what was told first; who was told nothing has no error."""
    exported = Exported()
    recorded = RouterMetrics(exported.metrics)
    record, untold = a_record(), a_record()
    record.estimate = (record.accepted_s + 1, 2.0)
    for one in (record, untold):
        recorded.assigned(one, one.accepted_s + 1 + waited_s)
    way, by_s = error
    assert exported.sums(names.ESTIMATE_ERROR) == {(record.request.priority.label, way): (1, by_s)}
    assert [count for count, _ in exported.sums(names.QUEUE_WAIT).values()] == [2]


async def test_queues_are_told_of_though_they_are_empty() -> None:
    """What waits by model and class, how long the oldest has, what the broker has; 0 for the others that are known."""
    metrics, ledger = Metrics(), Ledger()
    oldest, younger, running = (a_record(priority=Priority.HIGH) for _ in range(3))
    for age_s, record in ((60, oldest), (10, younger), (99, running)):
        record.accepted_s = time.time() - age_s
        ledger.add(record)
    watch_router(
        metrics,
        ledger=ledger,
        waits=lambda request_id: request_id != running.id,
        served=lambda: ["served"],
        backlogs=lambda: {"hr.v1.req.fake.batch.a": 4, "hr.v1.req.fake.batch.b": 5},
        workers=lambda: (
            Member(kind=MemberKind.WORKER, id="w", lanes=8, slots=2, busy_lanes=3, paused_lanes=2),
            Member(kind=MemberKind.WORKER, id="v", lanes=4, slots=4, draining=True),
        ),
        gateways=Gateways("r"),
    )
    waiting = metrics.values(names.QUEUE_WAITING)
    assert waiting["fake", "high"] == 2
    assert waiting["served", "realtime"] == waiting["fake", "batch"] == 0
    assert metrics.values(names.QUEUE_AGE)["fake", "high"] == pytest.approx(60, abs=5)
    assert metrics.values(names.QUEUE_BACKLOG)["fake", "batch"] == 9
    assert metrics.values(names.QUEUE_BACKLOG)["fake", "high"] == 0
    assert metrics.values(names.HELD) == {(): 3}
    assert metrics.values(names.LANES) == {("running",): 1, ("paused",): 2, ("free",): 1}
    assert metrics.values(names.WORKERS) == {("serving",): 1, ("draining",): 1}


async def test_what_static_prompts_spare_and_shadows_answer_is_told() -> None:
    """By version and result; sampled answers are those that are neither the same nor different. The names exist before
    anything was counted.
    """
    metrics = Metrics()
    statics: list[StaticCounts] = []
    shadows: list[ShadowCounts] = []
    watch_rollouts(metrics, statics=lambda: statics, shadows=lambda: shadows)
    assert metrics.values(names.STATIC_PROMPTS) == {("", ""): 0}
    assert metrics.values(names.SHADOW_ANSWERS) == {("", "", ""): 0}
    statics.append(StaticCounts(model="m@1", hits=5, misses=1, tokens=300))
    shadows.append(
        ShadowCounts(alias="chat", model="m@2", copies=9, dropped=2, failed=1, same=3, different=2, answers=8)
    )
    assert metrics.values(names.STATIC_PROMPTS) == {("", ""): 0, ("m@1", "hit"): 5, ("m@1", "miss"): 1}
    assert metrics.values(names.STATIC_TOKENS)["m@1",] == 300
    copies, answers = metrics.values(names.SHADOW_COPIES), metrics.values(names.SHADOW_ANSWERS)
    assert (copies["chat", "m@2", "sent"], copies["chat", "m@2", "dropped"]) == (9, 2)
    assert {labels[2]: count for labels, count in answers.items() if labels[0] == "chat"} == {
        "failed": 1,
        "same": 3,
        "different": 2,
        "sampled": 3,
    }


async def test_versions_beyond_the_cap_are_one() -> None:
    """However many there have been, the labels stay few, and the sum is right."""
    metrics = Metrics(max_series=3)
    statics = [StaticCounts(model=f"m@{number}", hits=1) for number in range(10)]
    watch_rollouts(metrics, statics=lambda: statics, shadows=list)
    hits = {
        labels[0]: count
        for labels, count in metrics.values(names.STATIC_PROMPTS).items()
        if labels[1] == "hit"
    }
    assert hits == {"m@0": 1, "m@1": 1, "m@2": 1, OTHER: 7}
