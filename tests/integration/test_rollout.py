"""Which version answers: aliases, canaries, promotion and roll-back through the whole mesh, with fake models."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.contract.alias import Alias, pick
from headrace.contract.errors import InvalidRequest, NotFound, UnknownModel
from headrace.contract.ids import new_request_id
from headrace.contract.values import Accepted, Outcome, OutcomeKind, TokenChunk
from tests.integration.local_mesh import LIMIT_S
from tests.integration.versions import NEW, OLD, OTHER, VersionsMesh, versions_mesh

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

ALIAS = "chat"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VersionsMesh]:
    async with versions_mesh(tmp_path_factory.mktemp("versions")) as mesh:
        await mesh.start(OLD, NEW)
        yield mesh


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(shared: VersionsMesh) -> AsyncIterator[VersionsMesh]:
    """Old and new are served, and the alias stands for the old one."""
    await shared.admin.set_alias(ALIAS, OLD, fallbacks=())
    yield shared
    await shared.admin.remove_alias(ALIAS)


async def ask(mesh: VersionsMesh, **fields: object) -> Outcome:
    asked = {"model": ALIAS, "prompt": "hello", "max_tokens": 4, **fields}
    return await mesh.client.complete(**asked)  # type: ignore[arg-type]


async def test_an_alias_is_answered_by_its_version_which_the_answer_names(mesh: VersionsMesh) -> None:
    """At acceptance and in the outcome; the alias is listed among the models, with what it comes to."""
    events = [event async for event in mesh.client.generate(model=ALIAS, prompt="hello", max_tokens=4)]
    assert isinstance(events[0], Accepted)
    assert events[0].model == OLD
    assert isinstance(events[-1], Outcome)
    assert (events[-1].kind, events[-1].model) == (OutcomeKind.COMPLETED, OLD)
    (listed,) = [model for model in await mesh.client.models() if model.name == ALIAS]
    assert listed.alias is not None
    assert (listed.alias.stable, listed.lanes > 0) == (OLD, True)


async def test_a_canary_answers_its_share_chosen_by_id(mesh: VersionsMesh) -> None:
    """Each request is answered by whom its id says, at any time; a promotion and a roll-back change all of them."""
    alias = await mesh.admin.canary(ALIAS, NEW, share=0.4)
    ids = [new_request_id() for _ in range(40)]
    outcomes = await asyncio.gather(*(ask(mesh, request_id=request_id) for request_id in ids))
    assert [outcome.model for outcome in outcomes] == [pick(alias, request_id) for request_id in ids]
    assert len(Counter(outcome.model for outcome in outcomes)) == 2
    assert (await mesh.admin.promote(ALIAS)).stable == NEW
    assert (await ask(mesh)).model == NEW
    assert (await mesh.admin.roll_back(ALIAS)).stable == OLD
    assert (await ask(mesh)).model == OLD


async def test_a_running_request_stays_on_its_version(mesh: VersionsMesh) -> None:
    """The alias moves on in the middle of its stream."""
    events = mesh.client.generate(model=ALIAS, prompt="hello", max_tokens=60, ignore_end=True)
    last, moved = None, False
    async for event in events:
        if isinstance(event, TokenChunk) and not moved:
            await mesh.admin.set_alias(ALIAS, NEW)
            moved = True
        last = event
    assert isinstance(last, Outcome)
    assert (last.model, last.earlier_models, last.usage.attempts) == (OLD, (), 1)
    assert (await ask(mesh)).model == NEW


async def test_what_operators_get_wrong_is_refused_and_changes_nothing(mesh: VersionsMesh) -> None:
    """Each by the field at fault."""
    with pytest.raises(UnknownModel, match="nonesuch"):
        await mesh.admin.set_alias(ALIAS, "nonesuch")
    with pytest.raises(InvalidRequest, match="no worker serves other"):
        await mesh.admin.canary(ALIAS, OTHER, share=0.1)
    with pytest.raises(InvalidRequest, match="share: must lie in 0 … 1"):
        await mesh.admin.canary(ALIAS, NEW, share=1.5)
    with pytest.raises(InvalidRequest, match="no canary to promote"):
        await mesh.admin.promote(ALIAS)
    with pytest.raises(InvalidRequest, match="canary: is old"):
        await mesh.admin.canary(ALIAS, OLD, share=0.1)
    with pytest.raises(NotFound, match="nobody"):
        await mesh.admin.roll_back("nobody")
    with pytest.raises(InvalidRequest, match="name: must be"):
        await mesh.admin.set_alias("a.b", OLD)
    (state,) = await mesh.admin.aliases()
    assert state.alias == Alias(
        name=ALIAS, stable=OLD, previous=state.alias.previous, changed_s=state.alias.changed_s
    )


async def test_a_shadow_gets_copies_that_nobody_sees(mesh: VersionsMesh) -> None:
    """Of every completed request here; what they made is compared and counted, and no outcome of them is kept."""
    await mesh.admin.shadow(ALIAS, NEW, share=1.0)
    kept = await mesh.results()
    outcomes = [await ask(mesh, prompt=f"hello {number}") for number in range(3)]
    assert {outcome.model for outcome in outcomes} == {OLD}
    shadow = await mesh.shadow_when(lambda found: found.answers == 3)
    assert (shadow.model, shadow.copies, shadow.dropped, shadow.failed) == (NEW, 3, 0, 0)
    assert (shadow.same, shadow.different, shadow.same_tokens, shadow.tokens) == (3, 0, 12, 12)
    assert shadow.answer_s > 0
    assert await mesh.results() == kept + 3
    await mesh.admin.shadow(ALIAS, "")
    await ask(mesh)
    assert (await mesh.shadow_when(lambda found: True)).copies == 3


async def test_a_static_prompt_is_kept_by_workers_and_counted(mesh: VersionsMesh) -> None:
    """The first request that begins with it has it computed, the next ones find it; others have none."""
    system = "You speak of mills and rivers, and of nothing else."
    await mesh.admin.set_static_prompts(OLD, [system])
    (kept,), _ = await mesh.admin.static_prompts()
    assert (kept.model, kept.prompts) == (OLD, (system,))
    chat = [{"role": "system", "content": system}, {"role": "user", "content": "hello"}]
    async with asyncio.timeout(30):
        while not (
            found := (await mesh.admin.static_prompts())[1]
        ):  # the router hears of it within milliseconds
            await ask(mesh, prompt="", messages=chat)
    (before,) = found
    for _ in range(2):
        await ask(mesh, prompt="", messages=chat)
    await ask(mesh, prompt="hello")
    _, (counts,) = await mesh.admin.static_prompts()
    assert (counts.model, counts.misses, counts.hits - before.hits) == (OLD, 1, 2)
    assert counts.tokens - before.tokens >= 2 * len(system)
    await mesh.admin.set_static_prompts(OLD, [])
    assert (await mesh.admin.static_prompts())[0] == ()
    with pytest.raises(UnknownModel, match="nonesuch"):
        await mesh.admin.set_static_prompts("nonesuch", [system])
    with pytest.raises(InvalidRequest, match=r"prompts\[1\]: must be 1 to 65536 bytes"):
        await mesh.admin.set_static_prompts(OLD, [system, ""])


async def test_a_fallback_answers_while_the_model_is_absent(tmp_path: Path) -> None:
    """And says that it did; the model answers again when it is back."""
    async with versions_mesh(tmp_path) as mesh:
        await mesh.start(OTHER)
        await mesh.admin.set_alias(ALIAS, OLD, fallbacks=(OTHER,))
        assert (await ask(mesh)).model == OTHER
        await mesh.start(OLD)
        assert (await ask(mesh)).model == OLD


async def test_a_fallback_answers_what_an_overloaded_model_would_keep_waiting(tmp_path: Path) -> None:
    """Beyond what the model does within the wait that is set, its fallback takes the rest."""
    # Less than any request takes: while two run, the next one has no lane in time.
    async with versions_mesh(tmp_path, {"rollout.fallback_wait_s": 0.01}) as mesh:
        await mesh.start(OLD, OTHER)
        await mesh.admin.set_alias(ALIAS, OLD, fallbacks=(OTHER,))
        alone = await ask(mesh, max_tokens=50, ignore_end=True)
        assert alone.model == OLD  # how long one takes is known now

        seen = {OLD}

        async def until_the_fallback_answers(max_tokens: int) -> None:
            while OTHER not in seen:
                outcome = await ask(mesh, max_tokens=max_tokens, ignore_end=True)
                assert outcome.kind is OutcomeKind.COMPLETED
                seen.add(outcome.model)

        async with asyncio.timeout(LIMIT_S):  # of several lengths, so that they do not all come at once
            await asyncio.gather(*(until_the_fallback_answers(60 + 20 * n) for n in range(5)))


async def test_a_version_that_leaves_gives_its_requests_to_the_next(tmp_path: Path) -> None:
    """Its worker drains under load, with requests that run, that wait in the router, and that wait in the broker: none
    fails, and those that had begun go on from their last token and say where they began.
    """
    async with versions_mesh(tmp_path, {"worker.drain_grace_s": 0.1, "router.lookahead": 4}) as mesh:
        await mesh.start(OLD, NEW)
        await mesh.admin.set_alias(ALIAS, OLD)
        first = mesh.client.generate(model=ALIAS, prompt="hello", max_tokens=120, ignore_end=True)
        others = [asyncio.create_task(ask(mesh, max_tokens=120, ignore_end=True)) for _ in range(16)]
        async for event in first:
            if isinstance(event, TokenChunk):
                break
        await mesh.admin.set_alias(ALIAS, NEW)
        await mesh.stop(OLD)
        async for event in first:
            last = event
        assert isinstance(last, Outcome)
        assert (last.model, last.earlier_models, last.usage.output_tokens) == (NEW, (OLD,), 120)
        outcomes = await asyncio.gather(*others)
        assert {(one.kind, one.model, len(one.token_ids)) for one in outcomes} == {
            (OutcomeKind.COMPLETED, NEW, 120)
        }
