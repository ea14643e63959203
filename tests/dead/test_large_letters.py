"""Letters of requests that are too large for a message: kept with their content, replayed, dropped."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.dead_view import whole_fields
from headrace.contract.payload_names import new_request_object
from headrace.contract.values import OutcomeKind, PayloadReference
from headrace.contract.work import ServedModel
from headrace.dead.letters import DeadLetters
from headrace.dead.replay import CannotReplay, plan_replay, publish, replay
from headrace.dead.whole import ContentMissing, drop, whole
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings
from tests.dead.lying import QUEUE, a_dead, every, fail_for_good, lay, the_letter
from tests.dead.test_replay import answer, change_requests, nothing_runs
from tests.router.conftest import Mesh, a_request
from tests.router.peers import worker
from tests.router.test_references import SMALL, gone, objects, payloads, send

pytestmark = pytest.mark.integration


@pytest.fixture
def fresh_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A server whose largest message is small."""
    with EmbeddedNats(NatsSettings(port=0, store_dir=tmp_path / "nats", max_payload_bytes=SMALL)) as server:
        yield server


async def test_a_replay_asks_the_whole_request(mesh: Mesh) -> None:
    """Its content is that of the object; then neither letter nor object is left."""
    router = await mesh.start_router("r-1")
    request = a_request(prompt="by reference", stop=("x",))
    async with worker(router.address, mesh.model) as hands:
        await send(mesh, request)
        await fail_for_good(hands)
        await mesh.result(request)
        letters, letter = await the_letter(mesh.nats)
        made = await replay(letters, letter)
        batch = await hands.batch()
        (entry,) = batch.entries
        assert (entry.request_id, bytes(entry.prompt), entry.stop) == (
            made.new_request_id,
            b"by reference",
            ("x",),
        )
        await hands.finish(batch)
        again = await mesh.result(a_request(id=made.new_request_id))
        assert again.kind is OutcomeKind.COMPLETED
        assert await every(mesh.nats) == []
        await gone(mesh)


async def test_a_replay_has_an_object_of_its_own(mesh: Mesh, tmp_path: Path) -> None:
    """So an interrupted replay can be begun anew: each try is whole, and at the end no object is left."""
    serve_long_prompts(mesh, tmp_path)
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model) as hands:
        await send(mesh, a_request(prompt="z" * SMALL))
        await fail_for_good(hands)
        await nothing_runs(mesh, hands)
        letters, letter = await the_letter(mesh.nats)
        plan = plan_replay(await whole(letters, letter), now_s=time.time())
        assert not await publish(letters, plan)  # and then the replay was interrupted
        assert len(await objects(mesh)) == 2
        assert (await replay(letters, letter)).again
        assert len(await objects(mesh)) == 1, "that of the first try alone"
        await answer(hands, plan.new_request_id, "ok")
        assert (await mesh.result(a_request(id=plan.new_request_id))).text == "ok"
        await gone(mesh)
        await nothing_runs(mesh, hands)


@pytest.mark.parametrize(("as_json", "spare"), [(False, 400), (True, 100)])
async def test_a_message_that_just_fits_is_kept_though_its_letter_would_not(
    mesh: Mesh, tmp_path: Path, as_json: bool, spare: int
) -> None:
    """The letter refers to it, and is replayed like any other."""
    serve_long_prompts(mesh, tmp_path)
    router = await mesh.start_router("r-1")
    request = a_request(prompt="z" * (SMALL - spare))
    async with worker(router.address, mesh.model) as hands:
        if as_json:
            await mesh.publish_json(QUEUE, {"prompt": request.prompt, "id": request.id})
        else:
            await mesh.publish(request)
        await fail_for_good(hands)
        await mesh.result(request)
        letters, letter = await the_letter(mesh.nats)
        assert len(letter.dead.body) < 1000
        assert (await whole(letters, letter)).dead.body.count(b"z") == SMALL - spare
        made = await replay(letters, letter)
        batch = await hands.batch()
        assert bytes(batch.entries[0].prompt).decode() == request.prompt
        await hands.finish(batch)
        await mesh.result(a_request(id=made.new_request_id))
        await gone(mesh)


async def test_a_deadline_in_the_object_is_seen_and_can_be_left_out(mesh: Mesh) -> None:
    """As one in the message is."""
    router = await mesh.start_router("r-1")
    await lay_referring(mesh, {"prompt": "p", "deadline": "2020-01-01T00:00:00Z"})
    letters, letter = await the_letter(mesh.nats)
    with pytest.raises(CannotReplay, match="its deadline passed"):
        await replay(letters, letter)
    async with worker(router.address, mesh.model) as hands:
        made = await replay(letters, letter, without_deadline=True)
        await answer(hands, made.new_request_id, "ok")
        assert (await mesh.result(a_request(id=made.new_request_id))).text == "ok"
        await gone(mesh)


async def test_a_dropped_letter_takes_its_object_with_it(mesh: Mesh) -> None:
    """And no other's: a letter that names another tenant's object has none."""
    await mesh.start_router("r-1")
    kept = await payloads(mesh).put("default/req/other", b"{}")
    foreign = await payloads(mesh).put("red/req/other", b"{}")
    await lay_referring(mesh, {"prompt": "p"})
    await lay(mesh.nats, a_dead(body=referring(foreign)))
    letters = await DeadLetters.open(mesh.nats)
    for letter in await every(mesh.nats):
        await drop(letters, letter)
    assert await every(mesh.nats) == []
    assert sorted(await objects(mesh)) == [kept.object, foreign.object]


async def test_a_letter_without_its_object_says_so(mesh: Mesh) -> None:
    """It cannot be replayed, and can be dropped."""
    await mesh.start_router("r-1")
    await lay(
        mesh.nats,
        a_dead(body=referring(PayloadReference(object="default/req/gone", size_bytes=1, sha256=""))),
    )
    letters, letter = await the_letter(mesh.nats)
    with pytest.raises(ContentMissing, match="there is no object"):
        await whole(letters, letter)
    with pytest.raises(CannotReplay, match="its content is not in the object store"):
        await replay(letters, letter)
    assert len(await every(mesh.nats)) == 1
    await drop(letters, letter)
    assert await every(mesh.nats) == []


async def test_a_letter_is_shown_with_its_content(mesh: Mesh) -> None:
    """As that of a small request is."""
    await mesh.start_router("r-1")
    await lay_referring(mesh, {"prompt": "p", "max_tokens": 7})
    letters, letter = await the_letter(mesh.nats)
    fields = whole_fields(await whole(letters, letter), "", content=True)
    assert fields["request"] == {"prompt": "p", "max_tokens": 7}


async def test_a_full_queue_leaves_letter_and_object_and_nothing_else(mesh: Mesh) -> None:
    """What the replay put is removed again."""
    await mesh.start_router("r-1")
    await change_requests(mesh, max_msgs_per_subject=1)
    await mesh.publish_json(QUEUE, {"prompt": "first"})
    reference = await lay_referring(mesh, {"prompt": "z" * SMALL})
    letters, letter = await the_letter(mesh.nats)
    with pytest.raises(CannotReplay, match="its queue is full"):
        await replay(letters, letter)
    assert await objects(mesh) == [reference.object]
    assert len(await every(mesh.nats)) == 1


def serve_long_prompts(mesh: Mesh, folder: Path) -> None:
    """More tokens than the largest message has bytes."""
    stored = install_fake_model(ModelStore(folder / "models"), context_length=4 * SMALL)
    mesh.model = ServedModel(name="fake", version=stored.manifest.version, compute_type="none")


async def lay_referring(mesh: Mesh, content: dict[str, Any]) -> PayloadReference:
    """A letter of a request whose content is in an object."""
    name = new_request_object("default", "x")
    reference = await payloads(mesh).put(name, json.dumps(content).encode())
    await lay(mesh.nats, a_dead(body=referring(reference)))
    return reference


def referring(reference: PayloadReference) -> bytes:
    return json.dumps({"payload": dataclasses.asdict(reference)}).encode()
