"""The desired state as this router reads it: what is wanted, and what each node was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog
from nats.aio.client import Client

from headrace.contract.deployments import DEPLOY, NODE, Assigned, Wish
from headrace.contract.deployments_document import read_assigned, read_wish
from headrace.contract.subjects import MODELS_BUCKET
from headrace.runtime.kv_view import KvView

log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class Deployments:
    """The bucket's wishes and assignments. What is malformed counts as not there, and is told once."""

    def __init__(self, connection: Client, on_change: Callable[[], None]) -> None:
        self.view = KvView(connection, MODELS_BUCKET, DEPLOY, NODE, on_change=on_change)
        self._told: dict[str, bytes] = {}

    def wishes(self) -> Mapping[str, Wish]:
        """By reference."""
        wishes = self._parsed(DEPLOY, read_wish)
        return {wish.reference: wish for key, wish in wishes.items() if wish.key == key}

    def wanted(self) -> Mapping[str, str]:
        """The version of each reference that is wanted."""
        return {reference: wish.version for reference, wish in self.wishes().items()}

    def assigned(self) -> Mapping[str, Assigned]:
        """By node."""
        return {key.removeprefix(NODE): given for key, given in self._parsed(NODE, read_assigned).items()}

    def _parsed(self, prefix: str, read: Callable[[bytes], _T]) -> dict[str, _T]:
        found = {}
        for key, body in self.view.values.items():
            if not key.startswith(prefix):
                continue
            try:
                found[key] = read(body)
            except ValueError as error:
                if self._told.get(key) != body:
                    self._told[key] = body
                    log.warning("deployment.malformed", key=key[:100], problem=str(error))
        return found
