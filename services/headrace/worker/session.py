"""One `Work` stream, from the join to the leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog

from headrace.contract.errors import Unavailable
from headrace.contract.log_level import LogLevel
from headrace.contract.work import Peer, RouterMessage, WorkerJoin, WorkerMessage
from headrace.contract.work_wire import decode_router_message, encode_worker_message
from headrace.runtime.shutdown import Shutdown
from headrace.worker.crew import Crew
from headrace.worker.outbox import Outbox

log = structlog.get_logger(__name__)

FAREWELL_S = 2.0
"""How long a worker that leaves waits for its last frames to be taken, and then for the router to end the stream."""


WELCOME_S = 5.0
"""How long a router may take to answer a join. One that is stopped does not even finish to connect, which gRPC gives up
after a second; this is for one whose event loop hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTimes:
    """A session's waits, in seconds."""

    heartbeat_s: float
    """Silence after which an empty message says that this worker still works."""
    drain_grace_s: float
    """How long running batches may go on once this worker is to end."""


class Session:
    """Serves one router on one stream. Leaves when `shutdown` is requested, or when the router drains.

    A router that wants this worker to leave requests the shutdown. `_leaving` and `_router_drains` are written by the
    tasks of `run`.
    """

    def __init__(
        self,
        call: Any,
        join: WorkerJoin,
        crew: Crew,
        outbox: Outbox,
        *,
        times: SessionTimes,
        shutdown: Shutdown,
        joined: Callable[[str], None],
        told: Callable[[Sequence[Peer]], None],
        released: Callable[[Sequence[str]], None] = lambda models: None,
        log_level: Callable[[LogLevel], None] = lambda level: None,
    ) -> None:
        """`call`: an open `RouterService.Work`. `joined` is called with the router's id when it has answered, `told`
        with the living routers whenever it says which they are, `released` with models that it sends no more batches
        of, `log_level` with how much an operator wants to be logged.
        """
        self._call = call
        self._join = join
        self._crew = crew
        self._outbox = outbox
        self._times = times
        self._shutdown = shutdown
        self._joined = joined
        self._told = told
        self._released = released
        self._log_level = log_level
        self._leaving = False
        self._router_drains = asyncio.Event()

    @property
    def router_drains(self) -> bool:
        """Whether the router has said that it goes."""
        return self._router_drains.is_set()

    async def run(self) -> None:
        """Returns when this worker has left. Raises Unavailable, in a group, where the stream broke before."""
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(), name="session-read")
                writer = group.create_task(self._write(), name="session-write")
                await self._until_leaving()
                self._leaving = True
                self._outbox.close()
                for task in (writer, reader):
                    await asyncio.wait((task,), timeout=FAREWELL_S)
                    task.cancel()
        finally:
            self._call.cancel()

    async def _read(self) -> None:
        problem = "it ended the stream"
        try:
            async with asyncio.timeout(WELCOME_S):
                message = await self._call.read()
            while message is not grpc.aio.EOF:
                self._hear(decode_router_message(message))
                message = await self._call.read()
        except TimeoutError:
            problem = f"it did not answer within {WELCOME_S:g} s"
        except grpc.aio.AioRpcError as error:
            problem = f"{error.code().name}: {error.details()}"
        if not self._leaving:
            raise Unavailable("router", problem)

    def _hear(self, said: RouterMessage) -> None:
        if self._leaving:
            return
        if said.welcome:
            self._joined(said.welcome)
        if said.peers is not None:
            self._told(said.peers)
        for start in said.start:
            self._crew.start(start)
        for batch in said.pause:
            self._crew.pause(batch)
        for batch in said.resume:
            self._crew.resume(batch)
        for assignment in said.cancel:
            self._crew.cancel(assignment)
        if said.released:
            self._released(said.released)
        if said.log_level is not None:
            self._log_level(said.log_level)
        if said.leave:
            self._shutdown.request("an operator asked for it")
        if said.draining and not self._router_drains.is_set():
            log.info("router.draining", remedy="its running batches end here; then this worker joins another")
            self._router_drains.set()

    async def _write(self) -> None:
        try:
            await self._call.write(encode_worker_message(WorkerMessage(join=self._join)))
            while (message := await self._outbox.take(self._times.heartbeat_s)) is not None:
                await self._call.write(encode_worker_message(message))
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the stream has ended: the reader hears why

    async def _until_leaving(self) -> None:
        """Returns when nothing runs any more and nothing new is wanted."""
        await first_of(self._shutdown.requested(), self._router_drains.wait())
        if not self._shutdown.draining:
            await first_of(self._shutdown.requested(), self._crew.idle())
        if self._shutdown.draining:
            self._outbox.tell_draining()
            try:
                async with asyncio.timeout(self._times.drain_grace_s):
                    await self._crew.idle()
            except TimeoutError:
                log.warning("worker.drain_cut", grace_s=self._times.drain_grace_s, running=repr(self._crew))
                self._crew.hand_back()


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Returns when one of `waits` has; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
