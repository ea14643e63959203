"""Messages whose subject names no queue: kept as dead letters, and taken off the stream by their places in it.

No consumer is ever made for them. A subject may have been published with `*` or `>` in it, and a consumer of that one
would take the messages of every queue that it matches; one that is not UTF-8 cannot be named in a filter at all; and
there may be any number of different ones.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import REQUESTS_STREAM, parse_queue
from headrace.runtime.nats_client import parse_headers

log = structlog.get_logger(__name__)

MAX_PLACES = 10_000
"""Announced places that wait to be looked at; the oldest is forgotten beyond it, and found by the search."""
MAX_SUBJECTS = 100
"""Subjects that one search goes through; the others' turn comes with the next."""
MAX_STEPS = 1_000
"""Messages that one search looks at per subject: others may lie between those of a subject that has `*` in it."""
API_TIMEOUT_S = 5.0
"""How long the broker may take to give or delete one message: it answers within milliseconds, or it is in trouble."""

_GET = f"$JS.API.STREAM.MSG.GET.{REQUESTS_STREAM}"
_DELETE = f"$JS.API.STREAM.MSG.DELETE.{REQUESTS_STREAM}"
_PLAIN_TOKEN = re.compile(r"[!-)+-=?-~]+")
"""What a filter can name as it is: no blank, no `*`, no `>`, nothing beyond ASCII."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A stored message that no consumer delivers."""

    subject: str
    """As the broker's JSON has it: what is not UTF-8 is U+FFFD."""
    sequence: int
    accepted_s: float
    """Unix time at which the broker took it."""
    headers: Mapping[str, str]
    body: bytes


class Strays:
    """Takes strays off the requests stream, one by one. Written by its own methods, on the event loop."""

    def __init__(
        self, connection: Client, refuse: Callable[[Stray, InvalidRequest], Awaitable[None]]
    ) -> None:
        """`refuse` returns when the message is a durable dead letter, and who waits for its answer is told."""
        self._connection = connection
        self._refuse = refuse
        self._places: OrderedDict[int, None] = OrderedDict()
        self._subjects: dict[str, int] = {}
        """By subject: where the search for it goes on."""
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Strays: {len(self._places)} places, {len(self._subjects)} subjects>"

    def announced(self, headers: Mapping[str, str] | None) -> None:
        """A message was stored under a subject that names no queue; its announcement had these headers."""
        place = (headers or {}).get("Nats-Sequence", "")
        if place.isascii() and place.isdigit() and len(place) < 20:
            self._places[int(place)] = None
            if len(self._places) > MAX_PLACES:
                self._places.popitem(last=False)
            self._wake.set()

    def listed(self, subjects: list[str]) -> None:
        """The stream holds these subjects, none of which names a queue: all that it holds."""
        self._subjects = {subject: self._subjects.get(subject, 0) for subject in subjects[:MAX_SUBJECTS]}
        if self._subjects:
            self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while self._places:
                    place, _ = self._places.popitem(last=False)
                    await self._take({"seq": place})
                for subject in list(self._subjects):
                    await self._search(subject)
            except (NatsError, TimeoutError, OSError) as error:
                # What was not reached is listed again within seconds.
                log.warning("strays.not_taken", problem=type(error).__name__)

    async def _search(self, subject: str) -> None:
        for _ in range(MAX_STEPS):
            if self._places or subject not in self._subjects:
                return  # where the announced ones lie is known
            wanted = {"seq": self._subjects[subject] + 1, "next_by_subj": _filter_of(subject)}
            if (found := await self._take(wanted)) is None:
                self._subjects.pop(subject, None)
                return
            if subject in self._subjects:
                self._subjects[subject] = found

    async def _take(self, wanted: dict[str, Any]) -> int | None:
        """Refuses the message that is asked for, if it is a stray; its place, or None where there is none."""
        message = await self._get(wanted)
        if message is None:
            return None
        try:
            parse_queue(message.subject)
        except InvalidRequest as error:
            await self._refuse(message, error)
            order = json.dumps({"seq": message.sequence, "no_erase": True}).encode()
            await self._connection.request(
                _DELETE, order, timeout=API_TIMEOUT_S
            )  # another router may have done it
        return message.sequence

    async def _get(self, wanted: dict[str, Any]) -> Stray | None:
        answer = await self._connection.request(_GET, json.dumps(wanted).encode(), timeout=API_TIMEOUT_S)
        stored = json.loads(answer.data).get("message")
        if stored is None:
            return None
        return Stray(
            subject=stored["subject"],
            sequence=stored["seq"],
            accepted_s=datetime.fromisoformat(stored["time"]).timestamp(),
            headers=parse_headers(base64.b64decode(stored.get("hdrs", ""))),
            body=base64.b64decode(stored.get("data", "")),
        )


def _filter_of(subject: str) -> str:
    """What matches `subject`, and as little else as can be. The broker finds no literal `>` by a `*`."""
    tokens = [
        token if _PLAIN_TOKEN.fullmatch(token) else "*" for token in subject.partition(">")[0].split(".")
    ]
    return ".".join(tokens if ">" not in subject else [*tokens[:-1], ">"])
