"""The aliases in the KV bucket `headrace_models`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

import structlog
from nats.js import JetStreamContext

from headrace.contract.alias import ALIAS_PREFIX, Alias, check_alias, decode_alias, encode_alias
from headrace.contract.errors import InvalidRequest, MalformedMessage, NotFound, Unavailable
from headrace.contract.subjects import MODELS_BUCKET, check_name, is_name
from headrace.runtime.bucket import Bucket, Changed, Entry

log = structlog.get_logger(__name__)

TRIES = 5
"""Of a change that others get in the way of: they are people, and routers that roll back."""


class AliasStore:
    """Reads and changes aliases. All methods raise Unavailable where the broker does not answer."""

    def __init__(self, js: JetStreamContext) -> None:
        self._bucket = Bucket(js, MODELS_BUCKET)

    async def list(self) -> Mapping[str, tuple[Alias, int]]:
        """Every alias that makes sense, by name, with its revision."""
        return aliases_in(await self._bucket.read_all(ALIAS_PREFIX))

    async def change(self, name: str, step: Callable[[Alias | None], Alias]) -> tuple[Alias, int]:
        """Puts what `step` makes of an alias, None where there is none, in its place; the alias, and its revision.

        `step` is called again where somebody else was faster. Whatever it raises comes through; InvalidRequest where
        what it makes breaks a limit.
        """
        key = ALIAS_PREFIX + check_name("name", name)
        for _ in range(TRIES):
            entry = await self._bucket.read(key)
            changed = step(_decoded(name, entry))
            alias = check_alias(dataclasses.replace(changed, name=name, changed_s=time.time()))
            try:
                revision = await self._bucket.write(key, encode_alias(alias), entry.revision)
            except Changed:
                continue
            return alias, revision
        raise Unavailable("alias", f"{name} is being changed by others; look at it and try again")

    async def remove(self, name: str) -> tuple[Alias, int]:
        """The alias as it was. Raises NotFound."""
        key = ALIAS_PREFIX + check_name("name", name)
        for _ in range(TRIES):
            entry = await self._bucket.read(key)
            if entry.value is None:
                raise NotFound("alias", name)
            try:
                await self._bucket.remove(key, entry.revision)
            except Changed:
                continue
            return _decoded(name, entry) or Alias(name=name, stable=""), entry.revision
        raise Unavailable("alias", f"{name} is being changed by others; look at it and try again")


def existing(name: str, alias: Alias | None) -> Alias:
    """For steps that need one. Raises NotFound."""
    if alias is None:
        raise NotFound("alias", name)
    return alias


def aliases_in(entries: Mapping[str, Entry]) -> dict[str, tuple[Alias, int]]:
    """What makes sense of these keys, by name. What does not is told, and left out."""
    found = {}
    for key, entry in entries.items():
        name = key.removeprefix(ALIAS_PREFIX)
        if is_name(name) and (alias := _decoded(name, entry)) is not None:
            found[name] = (alias, entry.revision)
    return found


def _decoded(name: str, entry: Entry) -> Alias | None:
    if entry.value is None:
        return None
    try:
        return decode_alias(name, entry.value)
    except (MalformedMessage, InvalidRequest) as error:
        log.warning("alias.malformed", alias=name, problem=str(error))
        return None
