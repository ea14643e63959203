"""Which rows changed when, so that each page gets what it has not seen, however long it did not listen.

Nothing waits for a page: what a slow one is sent next is the newest state of all that changed since its last.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass

from headrace.console.rows import Row, Tables

MAX_GONE = 5_000
"""Rows remembered as gone; a page that has not heard of older ones gets everything anew."""


@dataclass(slots=True)
class _Kept:
    row: Row
    revision: int


class Revisions:
    """The rows of all tables. One writer: `update`.

    Invariant: `_gone` has the rows that are not there any more and went after `_floor`, with the revision in which they
    went, oldest first.
    """

    def __init__(self) -> None:
        self.number = 0
        """Of the latest state; 0 = there was none yet."""
        self._tables: dict[str, dict[str, _Kept]] = {}
        self._gone: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._floor = 0
        self._made: dict[int, str] = {}
        """What `since` gave for the latest state: most pages have seen the same."""

    def update(self, tables: Tables) -> None:
        """The latest state; a new number, even if nothing changed."""
        self.number += 1
        self._made.clear()
        for table, rows in tables.items():
            kept = self._tables.setdefault(table, {})
            for key in [key for key in kept if key not in rows]:
                del kept[key]
                self._gone[table, key] = self.number
            for key, row in rows.items():
                old = kept.get(key)
                if old is None:
                    self._gone.pop((table, key), None)
                if old is None or old.row != row:
                    kept[key] = _Kept(row, self.number)
        while len(self._gone) > MAX_GONE:
            _, self._floor = self._gone.popitem(last=False)

    def since(self, seen: int) -> str:
        """JSON: the rows that changed after the state of number `seen`, and those that went; all where 0 was seen, or
        what went is not known any more: then `full` is true, and whatever is not in it is not there.
        """
        if seen not in self._made:
            self._made[seen] = json.dumps(self._since(seen), separators=(",", ":"))
        return self._made[seen]

    def _since(self, seen: int) -> dict[str, object]:
        full = seen == 0 or seen < self._floor
        after = 0 if full else seen
        rows: dict[str, dict[str, Row]] = {}
        for table, kept in self._tables.items():
            if changed := {key: one.row for key, one in kept.items() if one.revision > after}:
                rows[table] = changed
        gone: dict[str, list[str]] = {}
        if not full:
            for (table, key), revision in self._gone.items():
                if revision > after:
                    gone.setdefault(table, []).append(key)
        return {"number": self.number, "full": full, "rows": rows, "gone": gone}
