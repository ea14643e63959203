"""Static prompts at the engine: the same answers, and what cannot be one is refused before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from headrace.contract.values import GREEDY
from headrace.contract.work import Device
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from headrace.worker.ctranslate2_engine import CTranslate2Engine
from tests.worker.tiny_model import install_tiny_model

STATIC = list(range(40, 90))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CTranslate2Engine]:
    """A random model, in float32."""
    store = ModelStore(tmp_path_factory.mktemp("store"))
    install_tiny_model(store)
    stored = store.open("tiny")
    made = CTranslate2Engine(
        stored.path,
        tokens=Tokeniser.load(stored).tokens,
        end_ids=(2,),
        device=Device(kind="cpu"),
        compute_type="float32",
        lanes=2,
        threads_per_lane=1,
    )
    yield made
    made.close()


def answers(
    engine: CTranslate2Engine, prompts: Sequence[Sequence[int]], static_tokens: int
) -> list[list[int]]:
    """The tokens of each, and fails where the steps are not those of the contract."""
    made: list[list[int]] = [[] for _ in prompts]
    firsts: dict[int, int] = {}

    def on_token(entry: int, token_id: int, step: int, last: bool) -> bool:
        firsts.setdefault(entry, step)
        made[entry].append(token_id)
        return False

    engine.run(prompts, sampling=GREEDY, max_new=12, on_token=on_token, static_tokens=static_tokens)
    shortest = min(map(len, prompts))
    assert [firsts[entry] for entry in range(len(prompts))] == [len(p) - shortest for p in prompts]
    return made


@pytest.mark.parametrize("rests", [[(50, 51)], [(50, 51, 52), (60, 61, 62)], [(50, 51), (60, 61, 62, 63)]])
def test_the_answers_are_those_without_it(engine: CTranslate2Engine, rests: list[tuple[int, ...]]) -> None:
    """The first time, when it is computed, and again, when it is kept; and where lengths differ."""
    prompts = [[*STATIC, *rest] for rest in rests]
    plain = answers(engine, prompts, 0)
    assert [answers(engine, prompts, len(STATIC)) for _ in range(2)] == [plain, plain]


@pytest.mark.parametrize(
    "prompts", [[[*STATIC, 50]], [[*STATIC, 50, 51], [*STATIC[:-1], 7, 50, 51]], [[40, 41]]]
)
def test_what_does_not_begin_with_it_is_refused(engine: CTranslate2Engine, prompts: list[list[int]]) -> None:
    """Too little after it, another beginning, or shorter than it."""
    with pytest.raises(ValueError, match="static prompt"):
        answers(engine, prompts, len(STATIC))
