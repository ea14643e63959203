"""Fetches what this router needs of models that it does not hold: what makes tokens of text, without the weights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from headrace.contract.errors import HeadraceError
from headrace.models.bucket import FilesBucket
from headrace.models.store import ModelStore
from headrace.models.words import fetch_words

log = structlog.get_logger(__name__)

RETRY_S = 5.0
"""After one that was not there, or broke: it may be pushed only now."""


class Words:
    """Brings what is missing."""

    def __init__(
        self,
        store: ModelStore,
        bucket: FilesBucket,
        *,
        missing: Callable[[], frozenset[tuple[str, str]]],
        fetched: Callable[[], None],
    ) -> None:
        """`missing` has the (name, version) of those that are needed; `fetched` is called when some have come."""
        self._store = store
        self._bucket = bucket
        self._missing = missing
        self._fetched = fetched
        self._now = asyncio.Event()
        self._told: dict[tuple[str, str], str] = {}

    def fetch_soon(self) -> None:
        """Something is missing."""
        self._now.set()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._now.wait()
            self._now.clear()
            came = [await self._fetch(name, version) for name, version in sorted(self._missing())]
            if any(came):
                self._fetched()
            if not all(came):
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S):
                        await self._now.wait()

    async def _fetch(self, name: str, version: str) -> bool:
        try:
            found = await fetch_words(self._store, self._bucket, name, version)
            problem = "" if found is not None else "it is not in the NATS object store: headrace model push"
        except HeadraceError as error:
            found, problem = None, str(error)
        except Exception as error:  # a fault of ours in one model must not end a router, which has requests
            log.exception("model.words_failed", model=f"{name}@{version}")
            found, problem = None, type(error).__name__
        if found is not None:
            log.info("model.words_fetched", model=found.reference)
        elif self._told.get((name, version)) != problem:
            self._told[name, version] = problem
            log.warning("model.words_missing", model=f"{name}@{version}", problem=problem)
        return found is not None
