"""Copies of requests for a shadow: a version whose answers are compared with those that clients got, and discarded.

A copy is made once its request is completed. It is a message of its own, in the queue of the alias, the class `batch`
and the tenant `_shadow`, and any router may take it; what it makes goes nowhere, and no outcome or dead letter is kept.
Counts alone are left. Bounded by its queue: what finds that full is not copied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from headrace.contract.alias import is_shadowed
from headrace.contract.ids import is_request_id, new_request_id
from headrace.contract.queue_wire import encode_request
from headrace.contract.references import is_reference
from headrace.contract.rollout import ShadowCounts
from headrace.contract.subjects import (
    CONTENT_TYPE_PROTOBUF,
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    HEADER_SHADOW_MODEL,
    HEADER_SHADOW_OF,
    SHADOW_TENANT,
    Queue,
    is_name,
)
from headrace.contract.values import Outcome, OutcomeKind, Priority
from headrace.router.aliases import Aliases
from headrace.router.ledger import Record, ShadowOf
from headrace.runtime.nats_size import message_size

log = structlog.get_logger(__name__)

MAX_KINDS = 1_000
"""Pairs of alias and shadow that are counted; beyond it the one that was new first is forgotten."""
PUBLISH_S = 5.0
"""How long the broker may take to accept a copy."""


class Shadows:
    """Makes copies, and compares what became of them."""

    def __init__(
        self,
        connection: Client,
        aliases: Aliases,
        *,
        serves: Callable[[str], bool],
        answer_of: Callable[[str, str], Awaitable[Outcome | None]],
    ) -> None:
        """`serves` says whether somebody has lanes for a version; `answer_of(tenant, request id)` finds an outcome."""
        self._connection = connection
        self._js = connection.jetstream(timeout=PUBLISH_S)
        self._aliases = aliases
        self._serves = serves
        self._answer_of = answer_of
        self._counts: dict[tuple[str, str], ShadowCounts] = {}

    def counts(self) -> tuple[ShadowCounts, ...]:
        return tuple(self._counts.values())

    async def copy(self, record: Record, outcome: Outcome) -> None:
        """Sends a copy of a request that has ended, if its alias has a shadow and the request is of its share."""
        alias = self._aliases.get(record.request.model)
        if (
            alias is None
            or record.shadow_of is not None
            or outcome.kind is not OutcomeKind.COMPLETED
            or alias.shadow == record.model
            or not is_shadowed(alias, record.id)
            or not self._serves(alias.shadow)
        ):
            return
        sent = record.complete and await self._send(record, alias.shadow)
        self._add(record.request.model, alias.shadow, copies=sent, dropped=not sent)

    async def _send(self, record: Record, model: str) -> bool:
        request = dataclasses.replace(
            record.request,
            id=new_request_id(),
            tenant=SHADOW_TENANT,
            priority=Priority.BATCH,
            max_tokens=record.max_tokens,
            deadline_s=None,
            reply_to="",
            gateway="",
            payload=None,
        )
        queue = Queue(model=request.model, priority=request.priority, tenant=request.tenant)
        headers = {
            HEADER_REQUEST_ID: request.id,
            HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF,
            HEADER_SHADOW_OF: f"{record.tenant}.{record.id}",
            HEADER_SHADOW_MODEL: model,
        }
        body = encode_request(request)
        if message_size(body, headers) > self._connection.max_payload or not self._connection.is_connected:
            return False
        try:
            await self._js.publish(queue.subject, body, headers=headers)
        except (NatsError, TimeoutError, OSError):
            return False
        return True

    async def compare(self, record: Record, outcome: Outcome) -> None:
        """A copy has ended: what it made is compared with what its client got."""
        of, alias, model = record.shadow_of, record.request.model, record.model
        assert of is not None, "it is a copy"
        if outcome.kind is not OutcomeKind.COMPLETED:
            self._add(alias, of.model, failed=1)
            return
        answer = await self._answer_of(of.tenant, of.request_id)
        if answer is None or answer.kind is not OutcomeKind.COMPLETED:
            return  # it is not kept any more: there is nothing to compare with
        self._add(
            alias,
            model,
            answers=1,
            answer_s=outcome.usage.total_s - outcome.usage.queue_s,
            answer_s_of_client=answer.usage.total_s - answer.usage.queue_s,
        )
        if record.request.sampling.greedy:
            alike = _alike(answer.token_ids, outcome.token_ids)
            same = answer.token_ids == outcome.token_ids
            self._add(
                alias,
                model,
                same=same,
                different=not same,
                same_tokens=alike,
                tokens=len(answer.token_ids),
            )

    def _add(self, alias: str, model: str, **more: float) -> None:
        key = (alias, model)
        one = self._counts.get(key) or ShadowCounts(alias=alias, model=model)
        self._counts[key] = dataclasses.replace(
            one, **{name: getattr(one, name) + value for name, value in more.items()}
        )
        if len(self._counts) > MAX_KINDS:
            del self._counts[next(iter(self._counts))]


def shadow_of(tenant: str, headers: dict[str, str]) -> ShadowOf | None:
    """What a message of that tenant is a copy of; None where it is none."""
    if tenant != SHADOW_TENANT or HEADER_SHADOW_OF not in headers:
        return None
    original, _, request_id = headers[HEADER_SHADOW_OF].partition(".")
    model = headers.get(HEADER_SHADOW_MODEL, "")
    if not (is_name(original) and is_request_id(request_id) and is_reference(model)):
        return None
    return ShadowOf(tenant=original, request_id=request_id, model=model)


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Tokens up to the first that differs."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))
