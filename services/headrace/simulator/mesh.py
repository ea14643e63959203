"""The router's core in the simulator: its events come from the virtual broker and fleet, its commands go to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from headrace.contract.costs import ModelCost
from headrace.contract.values import GREEDY, FinishReason, Sampling, TokenChunk
from headrace.router.core import commands as cmd
from headrace.router.core import events as ev
from headrace.router.core.scheduler import Scheduler
from headrace.router.core.settings import SchedulerSettings
from headrace.simulator.asked import Life
from headrace.simulator.broker import Broker
from headrace.simulator.clock import Clock
from headrace.simulator.engine import Batch, Entry, VirtualWorker
from headrace.simulator.fleet import Machine

MODEL = "m"


class Mesh:
    """One router with all workers. Everything arrives at once: what is measured is the policy."""

    def __init__(
        self,
        settings: SchedulerSettings,
        machines: Sequence[Machine],
        max_batch: int,
        clock: Clock,
        *,
        sampling: Sampling = GREEDY,
    ) -> None:
        self._core = Scheduler(settings)
        self._clock = clock
        self._sampling = sampling
        self._broker = Broker()
        self._inbox: deque[ev.Event] = deque()
        """Bounded by what one event makes happen: it is emptied before the clock goes on."""
        self._telling = False
        self._lives: dict[str, tuple[str, Life]] = {}
        """What the core holds: queue and life, by request id."""
        self._wakes = 0
        self._chunk_ids: dict[int, tuple[int, ...]] = {}
        self.workers = [machine.build(clock, self) for machine in machines]
        self._by_name = {worker.name: worker for worker in self.workers}
        self._do: dict[type, Callable[[Any], None]] = {
            cmd.Pull: self._pull,
            cmd.Start: self._start,
            cmd.Pause: lambda command: self._by_name[command.worker].pause(command.batch),
            cmd.Resume: lambda command: self._by_name[command.worker].resume(command.batch),
            cmd.Stop: lambda command: self._by_name[command.worker].stop(command.assignment),
            cmd.Deliver: self._deliver,
            cmd.Settle: self._settle,
            cmd.Release: self._release,
            cmd.Requeued: lambda command: None,
            cmd.Regrouped: lambda command: None,
            cmd.WakeAt: self._wake_at,
        }
        self._tell(ev.ModelsKnown(models=frozenset({MODEL})))
        for machine in machines:
            self._join(machine, max_batch)

    def arrived(self, life: Life) -> None:
        """A client's request is in its queue."""
        asked = life.asked
        queue = f"{MODEL}.{asked.priority.label}.{asked.tenant}"
        if self._broker.publish(queue, life):
            self._tell(ev.QueueSeen(queue=queue, model=MODEL))
        self._give(queue, self._broker.due(queue))

    # What the workers say.

    def progressed(self, entry: Entry, tokens: int) -> None:
        ids = self._chunk_ids.get(tokens)
        if ids is None:
            ids = self._chunk_ids[tokens] = (0,) * tokens
        chunk = TokenChunk(first_index=entry.life.made, token_ids=ids, text="")
        self._tell(ev.Progressed(assignment=entry.assignment, tokens=chunk))

    def ended(self, entry: Entry) -> None:
        asked = entry.life.asked
        reason = FinishReason.LENGTH if asked.output_tokens >= asked.max_tokens else FinishReason.END
        self._tell(ev.EntryCompleted(assignment=entry.assignment, finish_reason=reason))

    def freed(self, worker: VirtualWorker, batch: Batch) -> None:
        self._tell(ev.BatchEnded(worker=worker.name, lane=batch.lane, batch=batch.number))

    # What the core is told, and what it wants done.

    def _join(self, machine: Machine, max_batch: int) -> None:
        costs: dict[str, ModelCost] = {MODEL: machine.cost}
        self._tell(
            ev.WorkerJoined(
                worker=machine.name,
                lanes=machine.lanes,
                slots=machine.slots,
                max_batch=max_batch,
                models=frozenset({MODEL}),
                costs=costs,
            )
        )

    def _tell(self, event: ev.Event) -> None:
        self._inbox.append(event)
        if self._telling:
            return
        self._telling = True
        inbox, do, handle = self._inbox, self._do, self._core.handle
        while inbox:
            for command in handle(inbox.popleft(), self._clock.now):
                do[type(command)](command)
        self._telling = False

    def _give(self, queue: str, lives: list[Life]) -> None:
        for life in lives:
            asked = life.asked
            request_id = f"r{asked.index:09}"
            self._lives[request_id] = (queue, life)
            self._tell(
                ev.RequestArrived(
                    request_id=request_id,
                    queue=queue,
                    model=MODEL,
                    priority=asked.priority,
                    tenant=asked.tenant,
                    sampling=self._sampling,
                    prompt_tokens=asked.prompt_tokens,
                    max_tokens=asked.max_tokens,
                    generated=life.made,
                    arrived_s=asked.arrival_s,
                )
            )

    def _pull(self, command: cmd.Pull) -> None:
        self._give(command.queue, self._broker.pull(command.queue, command.count))

    def _start(self, command: cmd.Start) -> None:
        lives = self._lives
        entries = [Entry(lives[one.request_id][1], one.number) for one in command.assignments]
        self._by_name[command.worker].start(command.lane, command.batch, entries)

    def _deliver(self, command: cmd.Deliver) -> None:
        life = self._lives[command.request_id][1]
        assert command.tokens.first_index == life.made, "a stream neither skips nor repeats"
        life.made = command.tokens.next_index

    def _settle(self, command: cmd.Settle) -> None:
        self._lives.pop(command.request_id)[1].end(command.kind)
        self._tell(ev.Settled(request_id=command.request_id))

    def _release(self, command: cmd.Release) -> None:
        queue, life = self._lives.pop(command.request_id)
        self._broker.give_back(queue, life)
        self._tell(ev.Settled(request_id=command.request_id))
        self._give(queue, self._broker.due(queue))

    def _wake_at(self, command: cmd.WakeAt) -> None:
        self._wakes += 1
        self._clock.at(max(command.at_s, self._clock.now), self._woke, None, self._wakes)

    def _woke(self, _what: None, version: int) -> None:
        if version == self._wakes:
            self._tell(ev.Woke())
