"""From a pulled message to a held request: read, claim, check, tokenise. What cannot be held is refused here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

import structlog
from nats.aio.msg import Msg

from headrace.contract.claims import HandOver, Running
from headrace.contract.errors import DuplicateRequest, HeadraceError, TooManyAttempts, UnknownModel
from headrace.contract.requests import Limits, Request, check_request
from headrace.contract.subjects import (
    consumer_name,
)
from headrace.contract.values import QueuePosition, Task
from headrace.router.burials import Burials
from headrace.router.clock import Clock
from headrace.router.core.events import RequestArrived, RequestRefused, RequestTaken
from headrace.router.delivery import Delivery
from headrace.router.gateways import Gateways
from headrace.router.leases import Leases
from headrace.router.ledger import Hold, Ledger, Record
from headrace.router.metrics import RouterMetrics
from headrace.router.models import RouterModel, RouterModels
from headrace.router.outcomes import Outcomes, refusal
from headrace.router.ownership import Ownership
from headrace.router.prepared import Prepared
from headrace.router.reading import read
from headrace.router.recall import recall
from headrace.router.references import References
from headrace.router.resolving import Resolved
from headrace.router.spans import RouterSpans
from headrace.router.statics import Statics, key_of
from headrace.runtime.propagation import extract

log = structlog.get_logger(__name__)


class Intake:
    """Takes pulled messages. As many at once as the core's demand let be pulled, so nothing queues up in here."""

    def __init__(
        self,
        *,
        models: RouterModels,
        limits: Limits,
        ledger: Ledger,
        gateways: Gateways,
        delivery: Delivery,
        outcomes: Outcomes,
        burials: Burials,
        ownership: Ownership,
        leases: Leases,
        references: References,
        spans: RouterSpans,
        metrics: RouterMetrics,
        clock: Clock,
        threads: Executor,
        recall_wait_s: float,
        max_deliveries: int,
        duplicate_window_s: float,
        tell: Callable[[RequestArrived | RequestRefused | RequestTaken], None],
        place: Callable[[Record], QueuePosition],
        resolve: Callable[[Record], Awaitable[Resolved]],
        statics: Statics,
    ) -> None:
        """`place` says where a request that is held here stands in its queue, `resolve` which version answers it."""
        self._models = models
        self._limits = limits
        self._ledger = ledger
        self._gateways = gateways
        self._delivery = delivery
        self._outcomes = outcomes
        self._burials = burials
        self._ownership = ownership
        self._leases = leases
        self._references = references
        self._spans = spans
        self._metrics = metrics
        self._clock = clock
        self._threads = threads
        self._recall_wait_s = recall_wait_s
        self._max_deliveries = max_deliveries
        self._duplicate_window_s = duplicate_window_s
        self._tell = tell
        self._place = place
        self._resolve = resolve
        self._statics = statics

    async def take(self, message: Msg) -> None:
        """The whole way of one message into the core, or to its refusal. Never raises for what the message holds."""
        try:
            record = read(message, self._duplicate_window_s, self._leases.since_s)
        except HeadraceError as error:
            # Nobody could ever answer it otherwise.
            await self._burials.refuse(message, error)
            self._tell(RequestRefused(queue=message.subject))
            return
        held = self._ledger.get(record.id)
        if held is not None and _was_elsewhere(held, record):
            held.hold = Hold.TAKEN
            self._tell(RequestTaken(request_id=held.id))
            held = self._ledger.get(record.id)
        elif held is not None and held.sequence != record.sequence:
            await self._references.compare(held, record)
            held = self._ledger.get(record.id)
        if held is not None:
            await self._again(held, record)
            return
        self._ledger.add(record)
        self._spans.begin(record, extract(message.headers), consumer_name(message.subject))
        resolved: Resolved | None = None
        try:
            resolved = await self._take(record)
        except HeadraceError as error:
            await self._refuse(record, error)
        except Exception as error:  # a fault of ours in one request must not end the others
            log.error("request.intake_failed", request_id=record.id, kind=type(error).__name__)
            await self._refuse(record, HeadraceError("the router could not read the request"))
        else:
            if resolved is not None:
                self._hold(record, resolved)
            else:
                self._tell(RequestRefused(queue=message.subject))

    async def _take(self, record: Record) -> Resolved | None:
        """What answers the request, if it is to be held here, and then it is prepared. Raises InvalidRequest,
        TooManyAttempts.
        """
        if await self._answered(record):
            return None
        again = record.message.metadata.num_delivered > 1
        if again:
            if not await self._claimed(record):
                return None
            if record.deliveries > self._max_deliveries:
                raise TooManyAttempts(record.deliveries, "no router that it was delivered to has ended it")
            await recall(record, self._gateways, self._recall_wait_s)
        elif record.used_again and isinstance(answer := await self._ownership.ask(record), Running):
            await self._leave(record, answer)
            return None
        resolved = await self._prepare(record)
        if record.hold is not Hold.OWNED:  # somebody took it meanwhile: this router stood still
            self._outcomes.let_go(record, "another router has it")
            return None
        return resolved

    async def _claimed(self, record: Record) -> bool:
        """Whether this router may go on with a request that was delivered again; fills in what is known of it."""
        match await self._ownership.claim(record):
            case Running() as running:
                await self._leave(record, running)
                return False
            case HandOver() as handed:
                record.take_over(handed)
                log.info("request.taken_over", request_id=record.id, tokens=record.next_index)
                self._spans.claimed(record, handed=True)
            case None:
                log.info("request.claimed", request_id=record.id)
                self._spans.claimed(record, handed=False)
        if record.hold is Hold.CLAIMING:
            record.hold = Hold.OWNED
        return True

    async def _leave(self, record: Record, running: Running) -> None:
        """Leaves a request to the router that is at work on it, or on another message with its id: then this one waits
        for the outcome of that.
        """
        if running.sequence in (0, record.sequence):
            self._outcomes.let_go(record, "another router has it")
        else:
            await self._outcomes.put_off(record)

    async def _again(self, held: Record, again: Record) -> None:
        """The id is held already: by this very message, delivered again, or by another that took the same id."""
        self._tell(RequestRefused(queue=again.message.subject))
        if held.sequence == again.sequence:
            # Its lease is no better for that: it has lapsed once, and another router may have had it since.
            held.message = again.message
        elif held.tenant == again.tenant and held.fingerprint == again.fingerprint != "":
            log.info("request.asked_twice", request_id=held.id)
            again.trace = held.trace
            self._delivery.also(held, again)
            await self._outcomes.acknowledge(again.message)
            await self._references.spare(held, again)
        else:
            log.warning("request.id_used_twice", request_id=held.id, queue=again.message.subject)
            error = DuplicateRequest(held.id)
            await self._burials.bury(again.message, error, again.id)
            # A gateway compares them itself, and may have the first one's client.
            if not again.request.gateway:
                self._delivery.refused(again, refusal(again, error))

    async def _answered(self, record: Record) -> bool:
        """Whether its id has an outcome already: its own, from a router that was lost or from an earlier message that
        asked for the same, or another request's.

        A gateway has looked, so its requests are looked up only where they are delivered again, or where the broker may
        have taken two messages of their id.
        """
        first = record.message.metadata.num_delivered <= 1
        if first and not record.used_again and (record.request.gateway or not record.chosen_id):
            return False
        earlier = await self._outcomes.find(record.tenant, record.id)
        if earlier is None:
            return False
        await self._references.know(record)
        if earlier.answers(record):
            await self._outcomes.answer(record, earlier.outcome)
        else:
            await self._outcomes.refuse_duplicate(record)
        return True

    async def _prepare(self, record: Record) -> Resolved:
        """Fills in the version that answers, and the prompt for it. Raises InvalidRequest."""
        await self._references.complete(record)
        request = record.request
        check_request(request, self._limits, time.time())
        resolved = await self._resolve(record)
        record.model, record.first_here = resolved.model, record.next_index
        if resolved.left:
            record.earlier_models = (*record.earlier_models, resolved.left)
            log.info(
                "request.changed_version", request_id=record.id, earlier=resolved.left, now=resolved.model
            )
        model = self._models.get(resolved.model)
        if model is None:
            raise UnknownModel(request.model, sorted(self._models.names()))
        loop = asyncio.get_running_loop()
        tokens, record.static_tokens = await loop.run_in_executor(
            self._threads, self._tokenise, model, request
        )
        record.prompt, record.texts, record.target_prefix = tokens.prompt, tokens.texts, tokens.target_prefix
        record.max_tokens = tokens.max_tokens
        return resolved

    def _tokenise(self, model: RouterModel, request: Request) -> tuple[Prepared, int]:
        """The tokens, and how many of the prompt are a static prompt. In a thread."""
        prepared = model.prepare(request, self._limits.default_max_tokens)
        if request.task is not Task.GENERATE:
            return prepared, 0
        return prepared, self._statics.match(model, prepared.prompt)

    def _hold(self, record: Record, resolved: Resolved) -> None:
        request = record.request
        record.followers |= self._gateways.holders(record)
        if record.message.metadata.num_delivered <= 1:
            self._gateways.begin(record)
        # Before the core has it, which may start it at once.
        self._spans.held(record)
        self._tell(
            RequestArrived(
                request_id=record.id,
                queue=record.message.subject,
                model=record.model,
                asked=resolved.asked,
                static=key_of(record.prompt, record.static_tokens),
                static_tokens=record.static_tokens,
                priority=request.priority,
                tenant=request.tenant,
                sampling=request.sampling,
                prompt_tokens=record.prompt_tokens,
                max_tokens=record.max_tokens,
                generated=record.next_index,
                attempts=record.attempts,
                losses=record.losses,
                arrived_s=self._clock.of_unix(record.accepted_s),
                deadline_s=None if request.deadline_s is None else self._clock.of_unix(request.deadline_s),
                task=request.task,
                texts=len(record.texts),
            )
        )
        self._metrics.held(record)
        # It has its place by now, and no token yet: those come with the next words of a worker.
        place = self._place(record)
        self._spans.placed(record, place)
        self._gateways.greet(record, place)
        self._gateways.bring_in_step(record)

    async def _refuse(self, record: Record, error: HeadraceError) -> None:
        self._tell(RequestRefused(queue=record.message.subject))
        try:
            await self._outcomes.settle(
                record, refusal(record, error), dead=isinstance(error, TooManyAttempts)
            )
        except Exception as fault:  # ours, too
            log.error("request.not_settled", request_id=record.id, kind=type(fault).__name__, exc_info=fault)
            self._outcomes.let_go(record, "it could not be refused")


def _was_elsewhere(held: Record, again: Record) -> bool:
    """Whether the broker gave a message that is held here to another router before it gave it here again: that one
    may have gone further.
    """
    deliveries = again.message.metadata.num_delivered - held.message.metadata.num_delivered
    return held.sequence == again.sequence and held.hold is Hold.OWNED and deliveries > 1
