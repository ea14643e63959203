"""The aliases, as the bucket has them now."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog
from nats.aio.client import Client

from headrace.contract.alias import ALIAS_PREFIX, Alias
from headrace.contract.subjects import MODELS_BUCKET
from headrace.router.core.events import RoutesKnown
from headrace.runtime.alias_store import aliases_in
from headrace.runtime.bucket import Entry
from headrace.runtime.bucket_watch import BucketWatch

log = structlog.get_logger(__name__)


class Aliases:
    """Every alias by name. Written by the watch alone."""

    def __init__(
        self,
        connection: Client,
        tell: Callable[[RoutesKnown], None],
        follow: Callable[[tuple[Alias, ...]], None],
    ) -> None:
        """`tell` and `follow` are called with all of them after each change."""
        self._tell = tell
        self._follow = follow
        self._aliases: dict[str, Alias] = {}
        self._watch = BucketWatch(connection, MODELS_BUCKET, ALIAS_PREFIX, self._changed)

    def __repr__(self) -> str:
        return f"<Aliases {', '.join(self._aliases) or 'none'}>"

    def get(self, name: str) -> Alias | None:
        return self._aliases.get(name)

    def all(self) -> tuple[Alias, ...]:
        """By name."""
        return tuple(self._aliases.values())

    async def listen(self) -> None:
        """Reads what is there, and hears of changes from now on."""
        await self._watch.listen()

    async def run(self) -> None:
        """Follows the bucket, until cancelled."""
        await self._watch.run()

    def _changed(self, entries: Mapping[str, Entry]) -> None:
        before, self._aliases = self._aliases, {name: found[0] for name, found in aliases_in(entries).items()}
        self._tell(RoutesKnown(routes={name: alias.references for name, alias in self._aliases.items()}))
        self._follow(self.all())
        for name in before.keys() | self._aliases.keys():
            if before.get(name) != (now := self._aliases.get(name)):
                log.info(
                    "alias.changed",
                    alias=name,
                    stable=now.stable if now else None,
                    canary=now.canary if now else None,
                    share=now.share if now else None,
                )
