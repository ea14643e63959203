"""The rows that the page shows: plain values, ready for JSON. Times are milliseconds of Unix time; 0 = none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from headrace.contract.admin import Member
from headrace.contract.state import BatchState, RouterState, WorkerState

Row: TypeAlias = dict[str, Any]
Table: TypeAlias = dict[str, Row]
Tables: TypeAlias = dict[str, Table]


def router_row(state: RouterState) -> Row:
    """A router, with what its workers do together."""
    batches = [batch for worker in state.workers for batch in worker.batches]
    paused = sum(batch.paused_ms > 0 for batch in batches)
    return {
        "address": state.address,
        "started": round(state.started_s * 1000),
        "draining": state.draining,
        "held": state.held,
        "waiting": sum(queue.waiting for queue in state.queues),
        "workers": len(state.workers) + state.workers_left_out,
        "lanes": sum(worker.lanes for worker in state.workers),
        "slots": sum(worker.slots for worker in state.workers),
        "running": len(batches) - paused,
        "paused": paused,
        "entries": sum(batch.entries for batch in batches),
        "tokens": state.totals.tokens,
        "completed": state.totals.completed,
        "failed": state.totals.failed,
        "cancelled": state.totals.cancelled,
        "expired": state.totals.expired,
        "rejected": state.totals.rejected,
    }


def worker_row(state: RouterState, worker: WorkerState) -> Row:
    """A worker; `batches` has a list for each lane that has one."""
    return {
        "name": worker.name,
        "router": state.router,
        "device": worker.device,
        "started": round(worker.started_s * 1000),
        "draining": worker.draining,
        "lanes": worker.lanes,
        "slots": worker.slots,
        "max_batch": worker.max_batch,
        "models": [_model(state, place) for place in worker.models],
        "batches": [_batch(state, batch) for batch in worker.batches],
        "left_out": worker.batches_left_out,
        "lost": 0,
    }


def _batch(state: RouterState, batch: BatchState) -> list[Any]:
    """lane, number, model, class, entries, context, generated, started, paused. A list, as there are many."""
    return [
        batch.lane,
        batch.batch,
        _model(state, batch.model),
        int(batch.priority),
        batch.entries,
        batch.context,
        batch.generated,
        batch.started_ms,
        batch.paused_ms,
    ]


def _model(state: RouterState, place: int) -> str:
    return state.models[place].name if place < len(state.models) else "?"


def queue_rows(states: Iterable[RouterState]) -> Table:
    """By `model.class.tenant`. What waits at several routers is added up; of the broker each tells the same."""
    rows: Table = {}
    for state in states:
        for queue in state.queues:
            key = f"{queue.model}.{queue.priority.label}.{queue.tenant}"
            row = rows.setdefault(
                key,
                {
                    "model": queue.model,
                    "class": int(queue.priority),
                    "tenant": queue.tenant,
                    "held": 0,
                    "backlog": 0,
                    "oldest": 0,
                    "routers": {},
                },
            )
            row["held"] += queue.waiting
            row["backlog"] = max(row["backlog"], queue.backlog)
            row["routers"][state.router] = queue.waiting
            if queue.oldest_ms:
                row["oldest"] = min(row["oldest"] or queue.oldest_ms, queue.oldest_ms)
    return rows


def model_rows(states: Iterable[RouterState]) -> Table:
    """By name: versions, and who serves them."""
    rows: Table = {}
    for state in states:
        served = [0] * len(state.models)
        slots = [0] * len(state.models)
        for worker in state.workers:
            for place in worker.models:
                if place < len(served) and not worker.draining:
                    served[place] += 1
                    slots[place] += worker.slots
        for place, model in enumerate(state.models):
            row = rows.setdefault(
                model.name,
                {
                    "versions": [],
                    "task": model.task,
                    "context": model.context_length,
                    "workers": 0,
                    "slots": 0,
                },
            )
            if model.version not in row["versions"]:
                row["versions"] = sorted([*row["versions"], model.version])
            row["workers"] += served[place]
            row["slots"] += slots[place]
    return rows


def gateway_row(member: Member) -> Row:
    """A gateway; `requests` counts the streams that its clients hold."""
    return {
        "address": member.address,
        "started": round(member.started_s * 1000),
        "draining": member.draining,
        "requests": member.requests,
    }
