"""What a page is sent, however often it looks, leads it to the latest state."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.console.revisions import MAX_GONE, Revisions

KEYS = st.sampled_from(["a", "b", "c", "d"])
TABLES = st.fixed_dictionaries(
    {"one": st.dictionaries(KEYS, st.builds(lambda n: {"n": n}, st.integers(0, 2)), max_size=4)}
)


class Page:
    """As the browser keeps it."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.seen = 0

    def look(self, revisions: Revisions) -> Any:
        news = json.loads(revisions.since(self.seen))
        if news["full"]:
            self.rows = {}
        self.rows.update(news["rows"].get("one", {}))
        for key in news["gone"].get("one", []):
            self.rows.pop(key, None)
        self.seen = news["number"]
        return news


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(st.tuples(TABLES, st.booleans()), min_size=1, max_size=12))
def test_a_page_that_skips_states_comes_to_the_latest(steps: list[tuple[Any, bool]]) -> None:
    """Whichever states a slow page misses, after its next look it has what one has that looks for the first time."""
    revisions, slow = Revisions(), Page()
    for tables, looks in steps:
        revisions.update(tables)
        if looks:
            slow.look(revisions)
    slow.look(revisions)
    fresh = Page()
    fresh.look(revisions)
    assert slow.rows == fresh.rows == steps[-1][0]["one"]


def test_only_what_changed_is_sent() -> None:
    """A row that stayed is not sent again, and nothing where nothing changed."""
    revisions, page = Revisions(), Page()
    revisions.update({"one": {"a": {"n": 1}, "b": {"n": 1}}})
    assert page.look(revisions)["full"]
    revisions.update({"one": {"a": {"n": 2}}})
    news = page.look(revisions)
    assert (news["rows"], news["gone"]) == ({"one": {"a": {"n": 2}}}, {"one": ["b"]})
    revisions.update({"one": {"a": {"n": 2}}})
    assert page.look(revisions)["rows"] == {}


def test_what_went_is_forgotten_within_bounds() -> None:
    """A page that missed more than is remembered gets everything anew."""
    revisions, page = Revisions(), Page()
    revisions.update({"one": {str(n): {"n": n} for n in range(MAX_GONE + 10)}})
    page.look(revisions)
    revisions.update({"one": {"left": {"n": 0}}})
    revisions.update({"one": {"left": {"n": 0}, "more": {"n": 0}}})
    assert page.look(revisions)["full"]
    assert set(page.rows) == {"left", "more"}
