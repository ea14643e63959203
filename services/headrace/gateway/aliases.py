"""What operators do with aliases and static prompts, and how these do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import nats.errors
import structlog
from nats.aio.client import Client

from headrace.contract.alias import (
    Alias,
    check_alias,
    pointed_at,
    promoted,
    rolled_back,
    with_canary,
    with_shadow,
)
from headrace.contract.alias_wire import decode_rollout
from headrace.contract.errors import InvalidRequest, MalformedMessage, UnknownModel
from headrace.contract.rollout import AliasState, RolloutCounts, counts_of, summed
from headrace.contract.static import StaticCounts, StaticPrompts
from headrace.contract.subjects import ADMIN_ROLLOUT
from headrace.gateway.broker import require_connection, unanswered
from headrace.gateway.catalogue import Catalogue
from headrace.runtime.alias_store import AliasStore, existing
from headrace.runtime.static_store import StaticStore

log = structlog.get_logger(__name__)

SHOWN_WITHIN_S = 2.0
"""How long a change waits for this gateway's routers to show it, so that who asks next is not refused. They hear of it
within milliseconds, and tell every tenth of a second."""
LOOK_AGAIN_S = 0.02
_PENDING_ANSWERS = 10_000
"""Answers that wait to be read, one per router."""

Changed = tuple[Alias, int]
"""An alias and its revision."""
Step = Callable[[Alias | None], Alias]


class Aliases:
    """Holds nothing. All methods raise Unavailable where the broker is away."""

    def __init__(
        self, nc: Client, store: AliasStore, statics: StaticStore, catalogue: Catalogue, *, wait_s: float
    ) -> None:
        """`wait_s` is how long routers' counts are waited for: nobody knows how many will come."""
        self._nc = nc
        self._store = store
        self._static_store = statics
        self._catalogue = catalogue
        self._wait_s = wait_s

    async def list(self) -> tuple[AliasState, ...]:
        """Every alias by name, with what the routers counted."""
        require_connection(self._nc)
        found = await self._store.list()
        counts = await self._gather() if found else RolloutCounts()
        return tuple(
            AliasState(alias=alias, revision=revision, counts=counts_of(counts, name))
            for name, (alias, revision) in sorted(found.items())
        )

    async def point(
        self, name: str, model: str, fallbacks: tuple[str, ...] | None, *, force: bool
    ) -> Changed:
        """Has `model` answer. Raises UnknownModel where no router knows it, unless forced."""

        def step(alias: Alias | None) -> Alias:
            if alias is None:
                alias = Alias(name=name, stable=model)
            return pointed_at(alias, model, fallbacks)

        self._known((model, *(fallbacks or ())), force=force)
        return await self._change(name, step)

    async def remove(self, name: str) -> Changed:
        """Takes it away; gives what it was. Raises NotFound."""
        require_connection(self._nc)
        removed = await self._store.remove(name)
        log.info("alias.removed", alias=name)
        await self._shown(name, None)
        return removed

    async def canary(self, name: str, model: str, share: float, *, force: bool) -> Changed:
        """Has `model`, or the canary that there is, answer a share."""

        def step(alias: Alias | None) -> Alias:
            there = existing(name, alias)
            if not (canary := model or there.canary):
                raise InvalidRequest("model", f"is required: {name} has no canary yet")
            return with_canary(there, canary, share)

        if model:
            self._served(model, force=force)
        return await self._change(name, step)

    async def promote(self, name: str, *, force: bool) -> Changed:
        """Has the canary answer all."""

        def step(alias: Alias | None) -> Alias:
            there = existing(name, alias)
            changed = promoted(there)
            self._served(there.canary, force=force)
            return changed

        return await self._change(name, step)

    async def roll_back(self, name: str) -> Changed:
        """Ends the canary, or what was promoted last."""
        return await self._change(name, lambda alias: rolled_back(existing(name, alias)))

    async def shadow(self, name: str, model: str, share: float, *, force: bool) -> Changed:
        """Has `model` get copies of a share; "" = nobody."""
        if model:
            self._known((model,), force=force)
        return await self._change(name, lambda alias: with_shadow(existing(name, alias), model, share))

    async def statics(self) -> tuple[tuple[StaticPrompts, ...], tuple[StaticCounts, ...]]:
        """The static prompts by model, and what routers counted of them."""
        require_connection(self._nc)
        return await self._static_store.list(), (await self._gather()).statics

    async def set_statics(self, statics: StaticPrompts) -> StaticPrompts:
        """Replaces those of a model. Raises UnknownModel where no router knows it."""
        require_connection(self._nc)
        names = {reference.partition("@")[0] for reference in self._catalogue.model_names()}
        if statics.prompts and statics.model not in names:
            raise UnknownModel(statics.model, sorted(names))
        await self._static_store.set(statics)
        log.info("static_prompts.set", model=statics.model, prompts=len(statics.prompts))
        return statics

    async def _change(self, name: str, step: Step) -> Changed:
        require_connection(self._nc)
        alias, revision = await self._store.change(name, lambda old: check_alias(step(old)))
        log.info(
            "alias.set",
            alias=name,
            stable=alias.stable,
            canary=alias.canary,
            share=alias.share,
            shadow=alias.shadow,
        )
        await self._shown(name, alias.changed_s)
        return alias, revision

    async def _shown(self, name: str, changed_s: float | None) -> None:
        try:
            async with asyncio.timeout(SHOWN_WITHIN_S):
                while not self._catalogue.shows(name, changed_s):  # noqa: ASYNC110 — a catalogue tells nobody what changed
                    await asyncio.sleep(LOOK_AGAIN_S)
        except TimeoutError:
            log.info("alias.not_shown_yet", alias=name)

    def _known(self, models: Iterable[str], *, force: bool) -> None:
        names = set(self._catalogue.model_names())
        for model in models:
            if not force and model not in names:
                raise UnknownModel(model, sorted(names))

    def _served(self, model: str, *, force: bool) -> None:
        self._known((model,), force=force)
        if not force and not self._catalogue.lanes(model):
            raise InvalidRequest("model", f"no worker serves {model} now: start one first, or force it")

    async def _gather(self) -> RolloutCounts:
        inbox = self._nc.new_inbox()
        found: list[RolloutCounts] = []
        try:
            answers = await self._nc.subscribe(inbox, pending_msgs_limit=_PENDING_ANSWERS)
            try:
                await self._nc.publish(ADMIN_ROLLOUT, reply=inbox)
                async with asyncio.timeout(self._wait_s):
                    async for answer in answers.messages:
                        found.append(_counts(answer.data))
            except TimeoutError:
                pass
            finally:
                await answers.unsubscribe()
        except nats.errors.Error as error:
            raise unanswered(error) from error
        return summed(found)


def _counts(body: bytes) -> RolloutCounts:
    try:
        return decode_rollout(body)
    except MalformedMessage as error:
        log.warning("rollout.answer_malformed", problem=str(error))
        return RolloutCounts()
