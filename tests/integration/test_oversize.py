"""A mesh whose broker takes small messages only, asked for much, and answering much."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.subjects import PAYLOADS_BUCKET
from headrace.contract.values import OutcomeKind
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from tests.integration.processes import Processes

pytestmark = pytest.mark.integration

README = Path(__file__).parents[2] / "README.md"
TOKENS = 40_000
"""As protobuf they take two bytes each and more."""


@asynccontextmanager
async def small_messages(folder: Path, max_payload_bytes: int) -> AsyncIterator[Processes]:
    """A mesh with the fake model, which takes and makes as many tokens as are asked for."""
    models = folder / "models"
    install_fake_model(ModelStore(models), context_length=1024 * 1024)
    limits = {"HEADRACE_LIMITS_MAX_TOKENS": str(TOKENS)}
    async with Processes(
        folder, models=models, environment=limits, max_payload_bytes=max_payload_bytes
    ) as running:
        yield running


async def objects(mesh: Processes) -> list[str]:
    """Their names."""
    connection = await nats.connect(mesh.nats_url)
    try:
        store = await connection.jetstream().object_store(PAYLOADS_BUCKET)
        return [info.name for info in await store.list()]
    except nats.js.errors.NotFoundError:
        return []
    finally:
        await connection.close()


async def left(mesh: Processes, count: int) -> list[str]:
    """The names of the objects, once there are no more than so many."""
    async with asyncio.timeout(10):
        while len(names := await objects(mesh)) > count:  # noqa: ASYNC110 (nothing tells when one is removed)
            await asyncio.sleep(0.02)
    return names


async def test_a_grpc_client_does_not_notice(tmp_path: Path) -> None:
    """A prompt and an answer over the limit, streamed and fetched; of the request nothing is left."""
    prompt = "größer " * 10_000
    async with small_messages(tmp_path, 64 * 1024) as mesh, HeadraceClient(mesh.address) as client:
        streamed = await client.complete(model="fake", prompt=prompt, max_tokens=TOKENS, ignore_end=True)
        assert (streamed.kind, len(streamed.token_ids)) == (OutcomeKind.COMPLETED, TOKENS)
        assert streamed.usage.prompt_tokens == len(prompt.encode())
        fetched = await client.result(streamed.request_id, wait_s=10)
        assert (fetched.text, fetched.token_ids) == (streamed.text, streamed.token_ids)
        accepted = await client.submit(model="fake", prompt=prompt, max_tokens=TOKENS, ignore_end=True)
        submitted = await client.result(accepted.request_id, wait_s=60)
        assert submitted.token_ids == streamed.token_ids
        names = await left(mesh, 2)
    assert sorted(name.rpartition("-")[0] for name in names) == sorted(
        f"default/res/{one.request_id}" for one in (streamed, submitted)
    )


async def test_the_readmes_example_of_large_messages_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the README prints it, but for the server's address, the model, and how much is asked for."""
    found = re.search(r"<!-- example: nats large -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, "the README has the example"
    source = found[1].replace("asyncio.run(main())", "").replace("smollm2", "fake")
    source = source.replace('"Once upon a time"', '"Once upon a time" * 12_000')
    source = source.replace('"max_tokens": 64', f'"max_tokens": {TOKENS}, "sampling": {{"ignore_end": True}}')
    names: dict[str, object] = {}
    # More than the pieces of 128 KiB that NATS clients make of an object.
    async with small_messages(tmp_path, 160 * 1024) as mesh:
        source = source.replace("nats://127.0.0.1:4222", mesh.nats_url)
        exec(compile(source, "README.md", "exec"), names)
        await asyncio.wait_for(names["main"](), 60)  # type: ignore[operator]
        assert len(capsys.readouterr().out) > TOKENS // 2, "the durable result holds the whole text"
        assert [name.split("/")[1] for name in await left(mesh, 1)] == ["res"]
