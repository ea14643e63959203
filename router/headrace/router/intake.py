"""From a pulled message to a held request: parse, check, render, tokenise. What cannot be held is refused here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace

import structlog
from nats.aio.msg import Msg

from headrace.contract.errors import DuplicateRequest, HeadraceError, InvalidRequest, UnknownModel
from headrace.contract.ids import check_request_id, derived_request_id, is_request_id
from headrace.contract.queue_wire import decode_request
from headrace.contract.requests import Limits, Request, check_request
from headrace.contract.subjects import (
    CONTENT_TYPE_PROTOBUF,
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    check_reply_subject,
    consumer_name,
    parse_queue,
    token_subject,
)
from headrace.contract.values import Failure, Outcome, OutcomeKind
from headrace.router.clock import Clock
from headrace.router.core.events import RequestArrived, RequestRefused
from headrace.router.delivery import Delivery
from headrace.router.gateways import Gateways
from headrace.router.ledger import Ledger, Record
from headrace.router.models import RouterModels
from headrace.router.outcomes import Outcomes, rest_of
from headrace.router.spans import RouterSpans
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
        spans: RouterSpans,
        clock: Clock,
        threads: Executor,
        tell: Callable[[RequestArrived | RequestRefused], None],
    ) -> None:
        self._models = models
        self._limits = limits
        self._ledger = ledger
        self._gateways = gateways
        self._delivery = delivery
        self._outcomes = outcomes
        self._spans = spans
        self._clock = clock
        self._threads = threads
        self._tell = tell

    async def take(self, message: Msg) -> None:
        """The whole way of one message into the core, or to its refusal. Never raises for what the message holds."""
        try:
            record = self._checked(message)
        except HeadraceError as error:
            # Nobody could ever answer it. Kept for a person to look at, and never delivered again.
            log.warning("request.malformed", queue=message.subject, code=error.code, problem=str(error))
            await self._outcomes.bury(message, error)
            self._tell(RequestRefused(queue=message.subject))
            return
        held = self._ledger.get(record.id)
        if held is not None:
            await self._again(held, record)
            return
        self._ledger.add(record)
        self._spans.begin(record, extract(message.headers), consumer_name(message.subject))
        try:
            if await self._answered(record):
                self._tell(RequestRefused(queue=message.subject))
                return
            await self._prepare(record)
        except HeadraceError as error:
            self._tell(RequestRefused(queue=message.subject))
            await self._refuse(record, error)
            return
        except Exception as error:  # a fault of ours in one request must not end the others
            log.error("request.intake_failed", request_id=record.id, kind=type(error).__name__)
            self._tell(RequestRefused(queue=message.subject))
            await self._refuse(record, HeadraceError("the router could not read the request"))
            return
        self._hold(record)

    def _checked(self, message: Msg) -> Record:
        """The record of a message. Raises a HeadraceError where there can be none, also where the fault is ours: such a
        message would otherwise be delivered again for ever.
        """
        try:
            return self._read(message)
        except HeadraceError:
            raise
        except Exception as error:
            log.error("request.intake_failed", queue=message.subject, kind=type(error).__name__)
            raise HeadraceError("the router could not read the message") from error

    def _read(self, message: Msg) -> Record:
        """Raises MalformedMessage, or InvalidRequest where the subject or an enum is none."""
        queue = parse_queue(message.subject)
        headers = message.headers or {}
        content_type = headers.get(HEADER_CONTENT_TYPE, "")
        request = decode_request(message.data, content_type, queue)
        metadata = message.metadata
        accepted_s = metadata.timestamp.timestamp()
        chosen = _chosen_id(request, headers.get(HEADER_REQUEST_ID, ""))
        request_id = chosen or derived_request_id(
            metadata.stream, metadata.sequence.stream, round(accepted_s * 1000)
        )
        reply_to = request.reply_to or token_subject(request.tenant, request_id)
        check_reply_subject(reply_to, request.tenant)
        return Record(
            request=replace(request, id=request_id, reply_to=reply_to),
            chosen_id=bool(chosen),
            message=message,
            sequence=metadata.sequence.stream,
            accepted_s=accepted_s,
            as_json=content_type.partition(";")[0].strip().lower() != CONTENT_TYPE_PROTOBUF,
            waiting_since_s=time.time(),
        )

    async def _again(self, held: Record, again: Record) -> None:
        """The id is held already: by this very message, delivered again, or by another that took the same id."""
        if held.sequence == again.sequence:
            held.message = again.message
        else:
            log.warning("request.id_used_twice", request_id=held.id, queue=again.message.subject)
            await self._outcomes.bury(again.message, DuplicateRequest(held.id))
        self._tell(RequestRefused(queue=again.message.subject))

    async def _answered(self, record: Record) -> bool:
        """Whether it has an outcome already: of a router that was lost, or of an earlier request with its id.

        A gateway has looked, so its requests are looked up only where they are delivered again.
        """
        first = record.message.metadata.num_delivered <= 1
        if first and (record.request.gateway or not record.chosen_id):
            return False
        earlier = await self._outcomes.find(record.request.tenant, record.id)
        if earlier is None:
            return False
        had = self._gateways.take_held(record.request.gateway, record.id)
        if had is not None and (rest := rest_of(earlier, had)) is not None:
            self._delivery.tokens(record, rest)
        await self._outcomes.answer(record, earlier)
        return True

    async def _prepare(self, record: Record) -> None:
        """Fills in the prompt and what an earlier router delivered of the output. Raises InvalidRequest."""
        request = record.request
        check_request(request, self._limits, time.time())
        model = self._models.get(request.model)
        if model is None:
            raise UnknownModel(request.model, sorted(self._models.names()))
        loop = asyncio.get_running_loop()
        record.prompt = await loop.run_in_executor(self._threads, model.tokenise, request)
        record.max_tokens = model.check_length(len(record.prompt), request, self._limits.default_max_tokens)
        if (had := self._gateways.take_held(request.gateway, request.id)) is not None:
            record.tokens.extend(had.token_ids)
            record.text.append(had.text)

    def _hold(self, record: Record) -> None:
        request = record.request
        self._tell(
            RequestArrived(
                request_id=record.id,
                queue=record.message.subject,
                model=request.model,
                priority=request.priority,
                tenant=request.tenant,
                sampling=request.sampling,
                prompt_tokens=len(record.prompt),
                max_tokens=record.max_tokens,
                generated=len(record.tokens),
                arrived_s=self._clock.of_unix(record.accepted_s),
                deadline_s=None if request.deadline_s is None else self._clock.of_unix(request.deadline_s),
            )
        )

    async def _refuse(self, record: Record, error: HeadraceError) -> None:
        kind = OutcomeKind.EXPIRED if error.code == "DEADLINE_PASSED" else OutcomeKind.REJECTED
        field = error.field if isinstance(error, InvalidRequest) else ""
        outcome = Outcome(
            request_id=record.id,
            kind=kind,
            model=record.request.model,
            usage=record.usage(time.time()),
            failure=Failure(code=error.code, message=str(error), field=field),
        )
        await self._outcomes.settle(record, outcome)


def _chosen_id(request: Request, header: str) -> str:
    """The id that the producer gave: in the message, else in the header where that holds one; "" = none."""
    if request.id:
        return check_request_id("id", request.id)
    return header if is_request_id(header) else ""
