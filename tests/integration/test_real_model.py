"""A real model's answers through a mesh of real processes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import ctranslate2
import nats
import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.errors import DeadlinePassed, DuplicateRequest, InvalidRequest, UnknownModel
from headrace.contract.ids import new_request_id
from headrace.contract.values import Accepted, FinishReason, Outcome, OutcomeKind, TokenChunk
from headrace.models.store import StoredModel
from headrace.models.tokeniser import Tokeniser
from tests.integration.processes import Processes

pytestmark = [pytest.mark.integration, pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

README = Path(__file__).parents[2] / "README.md"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PROMPTS = ("Once upon a time", "The quick brown fox", "def fibonacci(n):", "In 1969, the first")


def directly(stored: StoredModel, prompts: tuple[str, ...], max_tokens: int) -> list[tuple[int, ...]]:
    """What the engine makes of each prompt alone, without a mesh."""
    tokeniser = Tokeniser.load(stored)
    generator = ctranslate2.Generator(
        str(stored.path), device="cpu", compute_type="int8_float32", intra_threads=1
    )
    found = []
    for prompt in prompts:
        tokens = [tokeniser.tokens[i] for i in tokeniser.encode_prompt(prompt)]
        (result,) = generator.generate_batch(
            [tokens],
            max_length=max_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            end_token=list(stored.manifest.end_token_ids),
            return_end_token=True,
        )
        found.append(tuple(result.sequences_ids[0]))
    generator.unload_model()
    return found


async def test_greedy_output_is_the_engines_own_token_for_token(
    real_mesh: Processes, smollm2: StoredModel
) -> None:
    """Through NATS, router, worker and gateway comes exactly what the engine makes, and the text is its text."""
    expected = await asyncio.to_thread(directly, smollm2, PROMPTS, 24)
    tokeniser = Tokeniser.load(smollm2)
    async with HeadraceClient(real_mesh.address) as client:
        outcomes = await asyncio.gather(
            *(client.complete(model="smollm2", prompt=prompt, max_tokens=24) for prompt in PROMPTS)
        )
    assert [outcome.token_ids for outcome in outcomes] == expected
    assert [outcome.text for outcome in outcomes] == [tokeniser.decode(ids) for ids in expected]


async def nobody_waits(client: HeadraceClient) -> None:
    """Returns when the gateway knows so: a router tells it ten times a second."""
    while (asked := await client.submit(model="smollm2", prompt="Once", max_tokens=1)).position.ahead:
        await client.result(asked.request_id, wait_s=30)
    await client.result(asked.request_id, wait_s=30)


async def test_first_accepted_last_finished_and_the_answer_is_sensible(real_mesh: Processes) -> None:
    """The stream's shape, its indices, its usage, and that the model answers."""
    async with HeadraceClient(real_mesh.address) as client:
        await nobody_waits(client)
        events = [event async for event in client.generate(model="smollm2", messages=QUESTION, max_tokens=32)]
        first, *chunks, last = events
        assert isinstance(first, Accepted)
        assert first.position.ahead == 0
        assert isinstance(last, Outcome)
        tokens = [chunk for chunk in chunks if isinstance(chunk, TokenChunk)]
        assert [c.first_index for c in tokens] == [
            sum(len(x.token_ids) for x in tokens[:i]) for i in range(len(tokens))
        ]
        assert "Paris" in "".join(chunk.text for chunk in tokens)
        assert last.finish_reason is FinishReason.END
        assert last.usage.output_tokens == sum(len(chunk.token_ids) for chunk in tokens)
        assert last.usage.prompt_tokens > 0
        stored = await client.result(first.request_id)
        assert "Paris" in stored.text


async def test_the_readmes_nats_example_runs(
    real_mesh: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A producer with nothing but a NATS client, as the README prints it, but for the server's address."""
    found = re.search(r"<!-- example: nats -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, "the README has the example"
    source = found[1].replace("nats://127.0.0.1:4222", real_mesh.nats_url)
    script = source.replace("asyncio.run(main())", "")
    names: dict[str, object] = {}
    exec(compile(script, "README.md", "exec"), names)
    await asyncio.wait_for(names["main"](), 60)  # type: ignore[operator]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0 "), "chunks are indexed from 0"
    assert "Paris" in lines[-1], "the durable result holds the whole text"


async def test_submit_result_cancel_and_models(real_mesh: Processes) -> None:
    """What is submitted is answered without anybody waiting; what is cancelled stops."""
    async with HeadraceClient(real_mesh.address) as client:
        (model,) = await client.models()
        assert model.name == "smollm2"
        assert model.lanes >= 1
        accepted = await client.submit(model="smollm2", messages=QUESTION, max_tokens=8)
        outcome = await client.result(accepted.request_id, wait_s=30)
        assert outcome.kind is OutcomeKind.COMPLETED
        assert outcome.text
        long = await client.submit(model="smollm2", prompt="Once upon a time", max_tokens=2000)
        assert await client.cancel(long.request_id) is OutcomeKind.CANCELLED
        assert (await client.result(long.request_id)).kind is OutcomeKind.CANCELLED


async def test_bad_input_is_refused_with_field_and_limit(real_mesh: Processes) -> None:
    """Each before any compute, by the gateway where it can know, else by the router; the mesh goes on."""
    async with HeadraceClient(real_mesh.address) as client:
        with pytest.raises(UnknownModel, match="smollm2"):
            await client.complete(model="gpt-5", prompt="x")
        with pytest.raises(InvalidRequest, match="prompt"):
            await client.complete(model="smollm2", prompt="")
        with pytest.raises(InvalidRequest, match="max_tokens"):
            await client.complete(model="smollm2", prompt="x", max_tokens=10_000_000)
        with pytest.raises(InvalidRequest, match=r"prompt: has \d+ tokens; the context length is \d+"):
            await client.complete(model="smollm2", prompt="word " * 20_000)
        with pytest.raises(InvalidRequest, match="temperature"):
            await client.complete(model="smollm2", prompt="x", temperature=9.0)
        with pytest.raises(DeadlinePassed):
            await client.submit(model="smollm2", prompt="x", timeout_s=-1)
        used = new_request_id()
        await client.complete(model="smollm2", prompt="Once", max_tokens=2, request_id=used)
        with pytest.raises(DuplicateRequest, match=used):
            await client.complete(model="smollm2", prompt="Twice", max_tokens=2, request_id=used)
        assert (await client.complete(model="smollm2", prompt="Once", max_tokens=2)).token_ids


async def test_an_unread_answer_is_cancelled_within_a_step(real_mesh: Processes) -> None:
    """A client that goes away stops its work: the outcome is cancelled, with few of the tokens that it asked for."""
    async with HeadraceClient(real_mesh.address) as client:
        events = client.generate(model="smollm2", prompt="Once upon a time", max_tokens=4000)
        request_id = ""
        async for event in events:
            if isinstance(event, Accepted):
                request_id = event.request_id
            if isinstance(event, TokenChunk) and event.next_index >= 3:
                break
        await events.aclose()
        outcome = await client.result(request_id, wait_s=10)
        assert outcome.kind is OutcomeKind.CANCELLED
        assert 3 <= outcome.usage.output_tokens < 100


async def test_stop_strings_and_sampling_reach_the_engine(real_mesh: Processes) -> None:
    """A stop string ends the text before it; sampling gives other text than greedy, in its own batch."""
    async with HeadraceClient(real_mesh.address) as client:
        plain = await client.complete(model="smollm2", messages=QUESTION, max_tokens=20)
        stopped = await client.complete(model="smollm2", messages=QUESTION, max_tokens=20, stop=["of Fr"])
        assert stopped.finish_reason is FinishReason.STOP
        assert stopped.text == plain.text.partition("of Fr")[0]
        drawn = await asyncio.gather(
            *(
                client.complete(model="smollm2", prompt="The", max_tokens=12, temperature=1.5)
                for _ in range(4)
            )
        )
        assert len({outcome.text for outcome in drawn}) > 1


async def test_no_prompt_and_no_output_in_any_log(real_mesh: Processes) -> None:
    """Marked words go through every process, a failure included, and no log has them."""
    async with HeadraceClient(real_mesh.address) as client:
        await client.complete(model="smollm2", prompt="XYZZYPROMPT says", max_tokens=4)
        with pytest.raises(InvalidRequest):
            await client.complete(model="smollm2", prompt="XYZZYLONG " * 20_000)
    connection = await nats.connect(real_mesh.nats_url)
    await connection.jetstream().publish(
        "hr.v1.req.smollm2.normal.default", b'{"XYZZYKEY": 1, "prompt": "XYZZY'
    )
    letters = await connection.jetstream().subscribe(
        "hr.v1.dead.>", stream="HEADRACE_DEAD", ordered_consumer=True
    )
    await letters.next_msg(timeout=10)
    await connection.close()
    assert "XYZZY" not in real_mesh.logs()
