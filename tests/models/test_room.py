"""Disk limits, and versions that are in use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from headrace.models.errors import ModelInUse, NoRoom
from headrace.models.room import DiskLimits, make_room, remove_unused
from headrace.models.store import ModelStore, StoredModel
from headrace.models.uses import begin_use, last_used_s
from tests.models.test_store import builder


def delivered(store: ModelStore, text: str, used_s: float) -> StoredModel:
    """A version as it comes from the broker: no name means it. Last used at `used_s`."""
    model = store.install("tiny", builder(text=text))
    (store.root / "tiny").unlink()
    begin_use(store, model).end()
    os.utime(store.root / ".uses" / model.reference, (used_s, used_s))
    return model


def test_the_longest_unused_goes_first(store: ModelStore) -> None:
    """As much goes as is needed, by last use, and no more."""
    old, newer, new = (
        delivered(store, text * 100, used_s) for text, used_s in (("b", 2), ("a", 1), ("c", 3))
    )
    size = old.manifest.size
    limits = DiskLimits(max_bytes=3 * size)
    assert make_room(store, "tiny@x", size, limits, wanted=()) == [newer.reference]
    assert [m.reference for m in store.versions()] == sorted([old.reference, new.reference])
    assert make_room(store, "tiny@x", size, limits, wanted=()) == (), "there is room now"


def test_what_is_wanted_named_or_in_use_stays(store: ModelStore) -> None:
    """Then there is no room, the error says why in numbers, and nothing has gone."""
    wanted, used, free = (delivered(store, text * 100, 1) for text in "abc")
    named = store.install("tiny", builder(text="d" * 100))
    use = begin_use(store, used)
    limits = DiskLimits(max_bytes=4 * named.manifest.size)
    with pytest.raises(NoRoom, match=r"store\.max_bytes allows 0 MB"):
        make_room(store, "tiny@x", 2 * named.manifest.size, limits, wanted={wanted.reference})
    assert len(store.versions()) == 4
    use.end()
    gone = make_room(store, "tiny@x", 2 * named.manifest.size, limits, wanted={wanted.reference})
    assert set(gone) == {used.reference, free.reference}


def test_a_full_disk_is_told_before_anything_is_fetched(store: ModelStore) -> None:
    """More than the disk has: refused with what there is."""
    with pytest.raises(NoRoom, match="the disk has"):
        make_room(store, "tiny@x", 1 << 60, DiskLimits(), wanted=())


def test_a_version_that_another_process_has_loaded_is_not_removed(store: ModelStore) -> None:
    """The lock of a living process holds it; when that is killed the version may go."""
    model = store.install("tiny", builder())
    code = f"""
import sys
from pathlib import Path
from headrace.models.store import ModelStore
from headrace.models.uses import begin_use
store = ModelStore(Path({str(store.root)!r}))
use = begin_use(store, store.open("tiny"))
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"ready\n"
        with pytest.raises(ModelInUse, match="has it loaded"):
            remove_unused(store, model)
        store.verify("tiny")
        user.kill()
        user.wait()
        remove_unused(store, model)
    assert list(store.versions()) == []


def test_looking_is_no_use(store: ModelStore) -> None:
    """Asking whether a version may go leaves its age as it was."""
    model = delivered(store, "a", 7)
    make_room(store, "tiny@x", 1, DiskLimits(max_bytes=1 << 40), wanted=())
    assert last_used_s(store, model) == 7
