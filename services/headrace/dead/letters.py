"""All dead letters on a broker, read page by page: a stream of any length needs the memory of one page."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Self

import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from headrace.contract.errors import NotFound, Unavailable
from headrace.contract.subjects import DEAD_STREAM, DEAD_WILDCARD
from headrace.dead.letter import EVERY, Letter, Wanted
from headrace.dead.page import ANSWER_S, PAGE_LETTERS, read_page
from headrace.runtime.nats_layout import JetStreamMissing, server_version
from headrace.runtime.nats_version import check_version

_DELETE = f"$JS.API.STREAM.MSG.DELETE.{DEAD_STREAM}"
# The server's codes for a message that is not there, or no longer.
_NOT_THERE = frozenset({10037, 10043, 10057})


class DeadLetters:
    """The stream of dead letters. `open` makes one."""

    def __init__(self, nc: Client, *, first: int, last: int) -> None:
        self.nc = nc
        self.first = first
        """The lowest number when it was opened."""
        self.last = last
        """The highest number then. Letters that come later are not part of what a person looked at."""

    @classmethod
    async def open(cls, nc: Client) -> Self:
        """Raises NatsTooOld or JetStreamMissing, and Unavailable where the stream is not there."""
        check_version(server_version(nc))
        try:
            info = await nc.jetstream(timeout=ANSWER_S).stream_info(DEAD_STREAM)
        except NotFoundError as error:
            problem = f"this NATS has no stream {DEAD_STREAM}; a router makes it when it starts"
            raise Unavailable("dead letters", problem) from error
        except APIError as error:
            if isinstance(error, ServiceUnavailableError) and error.code is None:  # nobody answers at all
                raise JetStreamMissing from error
            raise Unavailable("dead letters", error.description or "NATS refuses to say") from error
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise Unavailable("dead letters", "NATS did not answer in time") from error
        return cls(nc, first=info.state.first_seq, last=info.state.last_seq)

    async def get(self, number: int) -> Letter:
        """Raises NotFound, Unavailable."""
        page = await read_page(self.nc, number, DEAD_WILDCARD, most=1)
        if not page.letters or page.letters[0].number != number:
            raise NotFound("dead letter", str(number))
        return page.letters[0]

    async def oldest_first(
        self, wanted: Wanted = EVERY, *, first: int = 0, last: int | None = None
    ) -> AsyncGenerator[list[Letter], None]:
        """The letters that are `wanted`, numbers `first` to `last` where these are given, in pages none of which is
        empty. Raises Unavailable.
        """
        first, last = max(first, self.first), self.last if last is None else last
        more = first <= last
        while more:
            page = await read_page(self.nc, first, wanted.subject)
            if found := [one for one in page.letters if one.number <= last and wanted.takes(one)]:
                yield found
            more = page.more and page.letters[-1].number < last
            first = page.letters[-1].number + 1 if page.letters else first

    async def newest_first(self, wanted: Wanted = EVERY) -> AsyncGenerator[list[Letter], None]:
        """The letters that are `wanted`, in pages none of which is empty. Raises Unavailable.

        The broker reads forwards only, so this takes a stretch of numbers before the last one read: a wider one after
        a stretch with few letters in it, half of it where it held more than a page.
        """
        high, width = self.last, PAGE_LETTERS
        while high >= self.first:
            low = max(self.first, high - width + 1)
            page = await read_page(self.nc, low, wanted.subject)
            letters = [one for one in page.letters if one.number <= high]
            if page.more and len(letters) == len(page.letters) and letters[-1].number < high and width > 1:
                width //= 2  # it ended before the newest of the stretch
                continue
            if found := [one for one in reversed(letters) if wanted.takes(one)]:
                yield found
            if letters and letters[0].stored_s < wanted.since_s:
                return  # all others are older still
            width = 2 * width if len(letters) < width // 2 else width
            high = low - 1

    async def remove(self, number: int) -> bool:
        """Takes a letter off the stream; False where it is not there. Raises Unavailable.

        Its bytes are not overwritten on the broker's disk, as those of no acknowledged request are: that would
        rewrite a whole file of the stream for each letter, and take twenty times as long.
        """
        ask = json.dumps({"seq": number, "no_erase": True}).encode()
        try:
            answer = json.loads((await self.nc.request(_DELETE, ask, timeout=ANSWER_S)).data)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise Unavailable("dead letters", f"NATS did not say whether letter {number} is gone") from error
        if error_said := answer.get("error"):
            if error_said.get("err_code") in _NOT_THERE:
                return False
            raise Unavailable("dead letters", f"letter {number} stays: {error_said.get('description')}")
        return True
