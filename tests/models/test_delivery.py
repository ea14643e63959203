"""Models through the broker's object store: pushed, fetched, broken off and damaged on the way."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from headrace.contract.errors import Unavailable
from headrace.models import bucket as bucket_module
from headrace.models import fetch as fetch_module
from headrace.models.bucket import BucketObject, FilesBucket, blob_name, blob_pieces
from headrace.models.errors import DamagedObject, ModelNotFound, NoRoom
from headrace.models.fetch import FetchRules, fetch
from headrace.models.manifest import Manifest
from headrace.models.push import push, pushed_manifest, pushed_version, remove_pushed
from headrace.models.room import DiskLimits
from headrace.models.store import Builder, ModelStore, StoredModel
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.stored_messages import Page, PageSize
from tests.models.test_store import MANIFEST

RULES = FetchRules(limits=DiskLimits(), wanted=lambda: ())
PIECE = 1024


def heavy(name: str = "tiny", seed: int = 1, size: int = 20 * PIECE + 7) -> Builder:
    """A model whose weights are many pieces."""

    def build(folder: Path) -> Manifest:
        (folder / "model.bin").write_bytes(hashlib.shake_128(bytes([seed])).digest(size))
        (folder / "sub").mkdir()
        (folder / "sub/more.txt").write_text("more")
        return dataclasses.replace(MANIFEST, name=name)

    return build


@pytest.fixture
async def nc(fresh_nats: EmbeddedNats, settings_for: Any) -> AsyncIterator[Client]:
    client = await nats.connect(fresh_nats.url)
    await ensure_layout(client, settings_for(fresh_nats))
    yield client
    await client.close()


@pytest.fixture
def bucket(nc: Client, monkeypatch: pytest.MonkeyPatch) -> FilesBucket:
    """The bucket, with pieces so small that a small file has many, and few of them in an answer."""
    monkeypatch.setattr(bucket_module, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(bucket_module, "PAGE", PageSize(messages=4, bytes=1 << 20))
    return FilesBucket(nc, answer_s=5)


@pytest.fixture
def pushed(store: ModelStore) -> StoredModel:
    return store.install("tiny", heavy())


@pytest.fixture
def node(tmp_path: Path) -> ModelStore:
    """The store of a machine that has nothing yet."""
    return ModelStore(tmp_path / "node")


async def get(node: ModelStore, bucket: FilesBucket, model: StoredModel, **how: Any) -> StoredModel:
    return await fetch(node, bucket, model.name, model.manifest.version, how.pop("rules", RULES), **how)


class Breaking(FilesBucket):
    """A bucket whose broker goes away after so many answers; counts the pieces of files that came."""

    def __init__(self, nc: Client, answers: int) -> None:
        super().__init__(nc, answer_s=5)
        self.answers = answers
        self.pieces = 0

    async def page(self, found: BucketObject, first: int) -> Page:
        if not found.name.startswith("sha256/"):
            return await super().page(found, first)  # a manifest
        if self.answers == 0:
            raise Unavailable("NATS", "it is away")
        self.answers -= 1
        page = await super().page(found, first)
        self.pieces += len(page.messages)
        return page


async def test_what_is_pushed_is_fetched_whole(
    bucket: FilesBucket, pushed: StoredModel, node: ModelStore
) -> None:
    """push, then fetch on another node: the same version, verified; no name means it there."""
    told: list[tuple[int, int]] = []
    result = await push(bucket, pushed, lambda done, total: told.append((done, total)))
    assert result.sent == result.size == pushed.manifest.size
    assert told[-1] == (pushed.manifest.size, pushed.manifest.size)
    assert told == sorted(told)
    told.clear()
    fetched = await get(node, bucket, pushed, progress=lambda done, total: told.append((done, total)))
    assert fetched.manifest == pushed.manifest == node.verify(pushed.reference).manifest
    assert told[-1] == (pushed.manifest.size, pushed.manifest.size)
    assert list(node.names()) == []
    assert not list((node.root / ".fetching").iterdir())
    assert await get(node, bucket, pushed) == fetched, "and again it is there"


async def test_a_name_is_the_version_that_was_pushed_last(bucket: FilesBucket, store: ModelStore) -> None:
    """Versions lie side by side in the bucket; their shared files are there once."""
    old, new = store.install("tiny", heavy(seed=1)), store.install("tiny", heavy(seed=2))
    await push(bucket, old)
    second = await push(bucket, new)
    assert second.sent == second.size - old.manifest.files["sub/more.txt"].size
    assert await pushed_version(bucket, "tiny") == new.manifest.version
    assert await pushed_version(bucket, "tiny", old.manifest.version[:8]) == old.manifest.version
    assert await pushed_version(bucket, "other") is None
    await remove_pushed(bucket, new.manifest)
    assert await pushed_manifest(bucket, "tiny", new.manifest.version) is None
    assert await pushed_version(bucket, "tiny") is None
    shared = {blob_name(entry.sha256) for entry in old.manifest.files.values()}
    assert await bucket.names() == {old.reference, *shared}


async def test_a_push_that_broke_goes_on(
    nc: Client, bucket: FilesBucket, pushed: StoredModel, node: ModelStore
) -> None:
    """Pieces that the broker has are not sent again, and until the last one is there nobody can fetch it."""
    weights = pushed.manifest.files["model.bin"]
    content = (pushed.path / "model.bin").read_bytes()
    number = 0
    for index in range(5):
        piece = content[index * PIECE : (index + 1) * PIECE]
        number = await bucket.send(blob_pieces(weights.sha256), piece, number)
    with pytest.raises(ModelNotFound):
        await get(node, bucket, pushed)
    result = await push(bucket, pushed)
    assert result.sent == result.size - 5 * PIECE
    await get(node, bucket, pushed)


async def test_two_pushes_of_one_file_do_not_mix(bucket: FilesBucket, pushed: StoredModel) -> None:
    """A piece that another process has stored meanwhile is refused to the second."""
    subject = blob_pieces(pushed.manifest.files["model.bin"].sha256)
    await bucket.send(subject, b"a" * PIECE, 0)
    with pytest.raises(Unavailable, match="wrong last sequence"):
        await bucket.send(subject, b"a" * PIECE, 0)


async def test_a_fetch_that_broke_goes_on_where_it_was(
    nc: Client, bucket: FilesBucket, pushed: StoredModel, node: ModelStore
) -> None:
    """The broker goes away in the middle: nothing is installed, and the next try reads only the rest."""
    await push(bucket, pushed)
    breaking = Breaking(nc, answers=3)
    with pytest.raises(Unavailable):
        await get(node, breaking, pushed)
    assert list(node.versions()) == []
    rest = Breaking(nc, answers=1_000)
    await get(node, rest, pushed)
    assert breaking.pieces + rest.pieces == 22, "21 pieces of weights, and 1 of the other file"
    assert min(breaking.pieces, rest.pieces) >= 4
    node.verify(pushed.reference)


async def test_what_a_kill_leaves_beyond_its_note_is_cut_off(
    nc: Client, bucket: FilesBucket, pushed: StoredModel, node: ModelStore
) -> None:
    """Bytes that were written and not noted are fetched again."""
    await push(bucket, pushed)
    with pytest.raises(Unavailable):
        await get(node, Breaking(nc, answers=3), pushed)
    (part,) = (path for path in (node.root / ".fetching").rglob("parts/*") if path.suffix != ".json")
    with part.open("ab") as file:
        file.write(b"half a page that was never noted")
    await get(node, bucket, pushed)
    node.verify(pushed.reference)


async def damage_piece(nc: Client, bucket: FilesBucket, subject: str) -> None:
    """Changes what the broker has, under the same size."""
    sent = await bucket.sent(subject)
    await nc.jetstream().delete_msg("OBJ_headrace_files", sent.number)
    await nc.jetstream().publish(subject, b"X" * len(sent.last))


async def lose_piece(nc: Client, bucket: FilesBucket, subject: str) -> None:
    await nc.jetstream().delete_msg("OBJ_headrace_files", (await bucket.sent(subject)).number)


async def add_piece(nc: Client, bucket: FilesBucket, subject: str) -> None:
    await nc.jetstream().publish(subject, b"more")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(damage_piece, "SHA-256"), (lose_piece, "instead of"), (add_piece, "more than its size")],
)
async def test_a_damaged_object_is_refused_and_pushed_again(
    nc: Client, bucket: FilesBucket, pushed: StoredModel, node: ModelStore, damage: Any, reason: str
) -> None:
    """A piece too many, changed or missing: named, with the way out, and nothing is installed. Pushed anew it is
    whole.
    """
    await push(bucket, pushed)
    await damage(nc, bucket, blob_pieces(pushed.manifest.files["model.bin"].sha256))
    with pytest.raises(DamagedObject, match=reason) as caught:
        await get(node, bucket, pushed)
    assert caught.value.file == "model.bin"
    assert "--force" in str(caught.value)
    assert list(node.versions()) == []
    await push(bucket, pushed, force=True)
    await get(node, bucket, pushed)
    node.verify(pushed.reference)


async def test_a_manifest_of_something_else_is_refused(
    bucket: FilesBucket, pushed: StoredModel, node: ModelStore
) -> None:
    """What it lists is not of the version that was asked for: nothing is fetched."""
    await push(bucket, pushed)
    entry = dataclasses.replace(pushed.manifest.files["model.bin"], sha256="00" * 32)
    forged = dataclasses.replace(pushed.manifest, files={**pushed.manifest.files, "model.bin": entry})
    await bucket.write(pushed.reference, forged.to_json().encode())
    with pytest.raises(DamagedObject, match="not that of this version"):
        await get(node, bucket, pushed)
    await bucket.write(pushed.reference, b"{")
    with pytest.raises(DamagedObject, match="not JSON"):
        await get(node, bucket, pushed)


async def test_a_version_that_nobody_pushed_is_an_error(bucket: FilesBucket, node: ModelStore) -> None:
    """It is named, and how it would come there."""
    with pytest.raises(ModelNotFound, match="headrace model push"):
        await fetch(node, bucket, "tiny", "0123456789ab", RULES)


async def test_no_room_is_told_before_a_byte_is_fetched(
    nc: Client, bucket: FilesBucket, pushed: StoredModel, node: ModelStore
) -> None:
    """The limit for models is too small: refused with both numbers, and nothing was read."""
    await push(bucket, pushed)
    reading = Breaking(nc, answers=10)
    rules = FetchRules(limits=DiskLimits(max_bytes=PIECE), wanted=lambda: ())
    with pytest.raises(NoRoom, match=r"store\.max_bytes"):
        await get(node, reading, pushed, rules=rules)
    assert reading.pieces == 0


async def test_a_disk_that_fills_up_meanwhile_is_cleared(
    bucket: FilesBucket, pushed: StoredModel, node: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write fails: what was fetched goes, so that others have room, and the error says why."""
    await push(bucket, pushed)

    def full(part: Any, size: int, number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch_module._Part, "note", full)
    with pytest.raises(NoRoom, match="the disk is full"):
        await get(node, bucket, pushed)
    assert not list((node.root / ".fetching").iterdir())
    assert list(node.versions()) == []


async def test_two_workers_of_a_machine_fetch_it_once(
    nc: Client, bucket: FilesBucket, pushed: StoredModel, node: ModelStore
) -> None:
    """The second waits, and finds it there."""
    await push(bucket, pushed)
    one, other = Breaking(nc, answers=100), Breaking(nc, answers=100)
    await asyncio.gather(get(node, one, pushed), get(node, other, pushed))
    assert one.pieces + other.pieces == 22
