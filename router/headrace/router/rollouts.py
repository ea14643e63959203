"""How the versions of aliases do here: counted for operators, and judged. A new version that does worse is rolled back.

Each router judges by what it has seen itself, and whoever finds a version worse first rolls it back for all.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from headrace.contract.alias import Alias, rolled_back
from headrace.contract.alias_wire import encode_rollout
from headrace.contract.errors import HeadraceError, Overloaded
from headrace.contract.rollout import RolloutCounts, ShadowCounts, VersionCounts
from headrace.contract.static import StaticCounts
from headrace.contract.subjects import ADMIN_ROLLOUT
from headrace.contract.values import Outcome, OutcomeKind
from headrace.router.core.judging import Judge, Margins
from headrace.router.ledger import Record
from headrace.runtime.alias_store import AliasStore, existing

log = structlog.get_logger(__name__)

MAX_VERSIONS = 32
"""Versions of one alias that are counted; beyond it the one that was new first is forgotten."""


class Rollouts:
    """Bounded by the aliases: one judge and at most MAX_VERSIONS counts for each."""

    def __init__(
        self,
        connection: Client,
        store: AliasStore,
        *,
        margins: Margins,
        judges: bool,
        first_token_s: tuple[float, ...],
        shadows: Callable[[], tuple[ShadowCounts, ...]],
        statics: Callable[[], tuple[StaticCounts, ...]],
    ) -> None:
        """`first_token_s` are the objectives by Priority; `judges` says whether versions are rolled back."""
        self._connection = connection
        self._store = store
        self._margins = margins
        self._judges = judges
        self._first_token_s = first_token_s
        self._shadows = shadows
        self._statics = statics
        self._aliases: dict[str, Alias] = {}
        self._counts: dict[str, dict[str, VersionCounts]] = {}
        self._by_alias: dict[str, Judge] = {}
        self._rolling_back: dict[str, asyncio.Task[None]] = {}

    async def listen(self) -> None:
        """Answers operators from now on; the subscription ends with the connection."""
        await self._connection.subscribe(ADMIN_ROLLOUT, cb=self._on_asked)

    def follow(self, aliases: tuple[Alias, ...]) -> None:
        """The aliases as they are now."""
        self._aliases = {alias.name: alias for alias in aliases}
        for gone in self._counts.keys() - self._aliases.keys():
            del self._counts[gone]
        for gone in self._by_alias.keys() - self._aliases.keys():
            del self._by_alias[gone]
        for alias in aliases:
            judge = self._by_alias.setdefault(alias.name, Judge(self._margins))
            trial = on_trial(alias)
            if trial is None:
                judge.rests()
            else:
                # What was promoted is watched for a while; a canary as long as it is one.
                judge.tries(*trial, until=0 if alias.canary else self._margins.memory)

    def ended(self, record: Record, outcome: Outcome, losses: int) -> None:
        """A request has its outcome; `losses` of its attempts failed or were lost."""
        alias = self._aliases.get(record.request.model)
        if alias is None or not record.model or not _counts(outcome):
            return
        failed = outcome.kind is OutcomeKind.FAILED or losses > 0
        late = self._is_late(record, outcome)
        self._add(alias.name, record.model, outcome, failed=failed, late=late)
        reason = self._by_alias[alias.name].answered(record.model, failed=failed, late=late)
        if reason and self._judges and alias.name not in self._rolling_back:
            task = asyncio.create_task(self._roll_back(alias, reason), name=f"roll back {alias.name}")
            self._rolling_back[alias.name] = task
            task.add_done_callback(lambda _: self._rolling_back.pop(alias.name, None))

    def counts(self) -> RolloutCounts:
        """All that was counted here."""
        return RolloutCounts(
            versions=tuple(one for ones in self._counts.values() for one in ones.values()),
            shadows=self._shadows(),
            statics=self._statics(),
        )

    def _is_late(self, record: Record, outcome: Outcome) -> bool:
        if record.first_token_s is None:
            return outcome.kind is not OutcomeKind.COMPLETED  # it has expired, or was refused for being late
        return record.first_token_s - record.accepted_s > self._first_token_s[record.request.priority]

    def _add(self, alias: str, model: str, outcome: Outcome, *, failed: bool, late: bool) -> None:
        ones = self._counts.setdefault(alias, {})
        one = ones.get(model) or VersionCounts(alias=alias, model=model)
        had_token = outcome.usage.output_tokens > 0
        ones[model] = dataclasses.replace(
            one,
            answered=one.answered + 1,
            failed=one.failed + failed,
            late=one.late + late,
            first_token_s=one.first_token_s + outcome.usage.first_token_s * had_token,
            first_tokens=one.first_tokens + had_token,
        )
        if len(ones) > MAX_VERSIONS:
            del ones[next(iter(ones))]

    async def _roll_back(self, judged: Alias, reason: str) -> None:
        _, new = on_trial(judged) or ("", "")

        def step(alias: Alias | None) -> Alias:
            there = existing(judged.name, alias)
            if on_trial(there) != on_trial(judged):
                raise _Changed  # an operator, or another router, was faster
            return rolled_back(there, f"{new} was rolled back: {reason}")

        try:
            await self._store.change(judged.name, step)
        except _Changed:
            return
        except HeadraceError as error:
            log.warning("alias.not_rolled_back", alias=judged.name, version=new, problem=str(error))
            return
        log.warning("alias.rolled_back", alias=judged.name, version=new, reason=reason)

    async def _on_asked(self, message: Msg) -> None:
        if not message.reply:
            return
        try:
            await message.respond(encode_rollout(self.counts()))
        except (NatsError, OSError) as error:
            log.info("rollout.not_answered", problem=type(error).__name__)


class _Changed(Exception):
    """The alias is another one than was judged."""


def on_trial(alias: Alias) -> tuple[str, str] | None:
    """(old, new): the canary beside the stable version; else what was promoted last beside what it replaced. Not after
    a roll-back that a router did: who did worse once is not gone back to by itself.
    """
    if alias.canary:
        return alias.stable, alias.canary
    if alias.previous and alias.previous != alias.stable and not alias.note:
        return alias.previous, alias.stable
    return None


def _counts(outcome: Outcome) -> bool:
    """Whether it says something of the version, rather than of the request or its client."""
    if outcome.kind is OutcomeKind.REJECTED:
        return outcome.failure is not None and outcome.failure.code == Overloaded.code
    return outcome.kind is not OutcomeKind.CANCELLED
