"""What a lane relies on, of the fake engine and the real one alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headrace.contract.values import GREEDY, Sampling
from headrace.contract.work import Device
from headrace.models.fake import FakeTiming
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from headrace.worker.ctranslate2_engine import CTranslate2Engine
from headrace.worker.engine import Engine, OnToken
from headrace.worker.fake_engine import END_SOON, FakeEngine
from tests.worker.tiny_model import install_tiny_model, prompt

LANES = 4
"""More than run at once: the others are paused."""


@dataclass(frozen=True)
class Case:
    """An engine, and how to make one for which a prompt ends by itself."""

    engine: Engine
    vocab_size: int
    ending: Callable[[], tuple[Engine, Sequence[int], int]]


@dataclass
class Calls:
    """Takes an engine's callbacks down. `end_after`: how many tokens each entry may make."""

    end_after: dict[int, int] = field(default_factory=dict)
    seen: list[tuple[int, int, int, bool]] = field(default_factory=list)

    def __call__(self, entry: int, token_id: int, step: int, last: bool) -> bool:
        self.seen.append((entry, token_id, step, last))
        return len(self.of(entry)) >= self.end_after.get(entry, 10_000)

    def of(self, entry: int) -> list[int]:
        return [token_id for each, token_id, _, _ in self.seen if each == entry]

    def steps_of(self, entry: int) -> list[int]:
        return [step for each, _, step, _ in self.seen if each == entry]


@pytest.fixture(scope="module", params=["fake", "ctranslate2"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    if request.param == "fake":
        fake = FakeEngine(FakeTiming(), vocab_size=258, end_id=257)
        yield Case(fake, 258, lambda: (fake, (*prompt(5), END_SOON), 257))
        return
    opened: list[CTranslate2Engine] = []
    folder = tmp_path_factory.mktemp("store")

    def load(*end_ids: int) -> CTranslate2Engine:
        opened.append(_load(folder, end_ids))
        return opened[-1]

    def ending() -> tuple[Engine, Sequence[int], int]:
        made = generate(opened[0], prompt(6), 20)
        end_id = next(token for token in made if made.index(token) > 3)
        return load(end_id), prompt(6), end_id

    install_tiny_model(ModelStore(folder))
    tokens = len(Tokeniser.load(ModelStore(folder).open("tiny")).tokens)
    yield Case(load(2), tokens, ending)
    for engine in opened:
        engine.close()


def _load(root: Path, end_ids: Sequence[int]) -> CTranslate2Engine:
    stored = ModelStore(root).open("tiny")
    return CTranslate2Engine(
        stored.path,
        tokens=Tokeniser.load(stored).tokens,
        end_ids=end_ids,
        device=Device(kind="cpu"),
        compute_type="float32",
        lanes=LANES,
        threads_per_lane=1,
    )


def run(engine: Engine, prompts: Sequence[Sequence[int]], max_new: int, sampling: Sampling = GREEDY) -> Calls:
    calls = Calls()
    engine.run(prompts, sampling=sampling, max_new=max_new, on_token=calls)
    return calls


def generate(engine: Engine, ids: Sequence[int], max_new: int) -> list[int]:
    return run(engine, [ids], max_new).of(0)


def test_tokens_come_one_by_one(case: Case) -> None:
    """Steps count from 0 without a gap, and there are no more than were asked for."""
    calls = run(case.engine, [prompt(5)], 12)
    assert calls.steps_of(0) == list(range(len(calls.seen)))
    assert 0 < len(calls.seen) <= 12
    assert all(0 <= token < case.vocab_size for token in calls.of(0))


def test_greedy_output_follows_from_the_prompt(case: Case) -> None:
    """Again gives the same, and a batch of equal lengths gives each what it gives alone."""
    prompts = [prompt(7, first) for first in (40, 41, 50, 60)]
    alone = [generate(case.engine, ids, 15) for ids in prompts]
    together = run(case.engine, prompts, 15)
    assert [together.of(entry) for entry in range(4)] == alone
    assert len({tuple(made) for made in alone}) > 1


def test_all_calls_of_a_step_come_before_the_next(case: Case) -> None:
    """Steps never go back."""
    steps = [step for _, _, step, _ in run(case.engine, [prompt(5), prompt(8), prompt(5)], 15).seen]
    assert steps == sorted(steps)


def test_a_longer_prompt_begins_as_many_steps_later(case: Case) -> None:
    """An entry k tokens longer than the shortest makes its first token in step k, and none before."""
    calls = run(case.engine, [prompt(4), prompt(9), prompt(6)], 20)
    assert [calls.steps_of(entry)[0] for entry in range(3)] == [0, 5, 2]


def test_the_answer_true_ends_that_entry_alone(case: Case) -> None:
    """It is not called for again; the others go on to their own ends."""
    prompts = [prompt(6, first) for first in (40, 45, 55)]
    free = run(case.engine, prompts, 20)
    calls = Calls(end_after={0: 3, 2: 1})
    case.engine.run(prompts, sampling=GREEDY, max_new=20, on_token=calls)
    assert [calls.of(entry) for entry in range(3)] == [free.of(0)[:3], free.of(1), free.of(2)[:1]]


def test_prompt_and_tokens_together_go_on_the_same(case: Case) -> None:
    """What a resumption rests on: any cut gives the same continuation."""
    whole = generate(case.engine, prompt(6), 16)
    for cut in (1, 2, 7, 15):
        assert generate(case.engine, [*prompt(6), *whole[:cut]], 16 - cut) == whole[cut:]


def test_an_end_token_is_told_as_the_last(case: Case) -> None:
    """The end token itself comes, with `last`, and nothing after it."""
    engine, ids, end_id = case.ending()
    calls = run(engine, [ids], 400)
    assert calls.of(0)[-1] == end_id
    assert [last for _, _, _, last in calls.seen] == [False] * (len(calls.seen) - 1) + [True]
    assert end_id not in calls.of(0)[:-1]


def test_with_ignore_end_it_never_comes(case: Case) -> None:
    """Exactly as many tokens as were asked for."""
    engine, ids, end_id = case.ending()
    made = run(engine, [ids], 100, Sampling(ignore_end=True)).of(0)
    assert len(made) == 100
    assert end_id not in made


@pytest.mark.parametrize(
    "prompts",
    [[], [()], [(50, 51), ()], [(50, 51), (50,)], [(50, 100_000)]],
    ids=["none", "empty", "empty beside", "one token beside longer", "unknown token"],
)
def test_prompts_that_it_would_compute_wrongly_are_refused(
    case: Case, prompts: list[tuple[int, ...]]
) -> None:
    """Before anything is computed, and the engine goes on."""
    calls = Calls()
    with pytest.raises(ValueError, match=r"prompt|token"):
        case.engine.run(prompts, sampling=GREEDY, max_new=5, on_token=calls)
    assert calls.seen == []
    assert generate(case.engine, prompt(5), 3)


def test_one_token_prompts_run_together(case: Case) -> None:
    """Among their like they are as others."""
    calls = run(case.engine, [(50,), (60,)], 5)
    assert [calls.of(0), calls.of(1)] == [generate(case.engine, (50,), 5), generate(case.engine, (60,), 5)]
    assert calls.steps_of(0)[0] == 0


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.8),
        Sampling(temperature=2.0, top_k=5),
        Sampling(temperature=1.0, top_k=1000, top_p=0.9),
        Sampling(temperature=0.7, top_p=0.1, repetition_penalty=1.3),
        Sampling(repetition_penalty=0.5),
        Sampling(temperature=0.001),
    ],
    ids=str,
)
def test_every_sampling_that_the_contract_allows_is_taken(case: Case, sampling: Sampling) -> None:
    """Limits included: a top_k beyond the vocabulary is all of it."""
    made = run(case.engine, [prompt(5)] * 2, 5, sampling).seen
    assert made
    assert all(0 <= token < case.vocab_size for _, token, _, _ in made)


def test_lanes_run_side_by_side(case: Case) -> None:
    """As many threads as it has lanes may be inside `run`, each with its own batch."""
    expected = [generate(case.engine, prompt(6, first), 30) for first in (40, 50)]
    both = threading.Barrier(2)
    got: dict[int, list[int]] = {}

    def lane(number: int, first: int) -> None:
        calls = Calls()

        def on_token(entry: int, token_id: int, step: int, last: bool) -> bool:
            if step == 0:
                both.wait(timeout=30)  # only passes when the other lane is inside too
            return calls(entry, token_id, step, last)

        case.engine.run([prompt(6, first)], sampling=GREEDY, max_new=30, on_token=on_token)
        got[number] = calls.of(0)

    threads = [threading.Thread(target=lane, args=item) for item in ((0, 40), (1, 50))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[0], got[1]] == expected


class Halt:
    """Takes callbacks down, and stands still in one of step `at` until `go`."""

    def __init__(self, at: int) -> None:
        self.calls = Calls()
        self.go = threading.Event()
        self.stands = threading.Event()
        self._at = at

    def __call__(self, entry: int, token_id: int, step: int, last: bool) -> bool:
        ends = self.calls(entry, token_id, step, last)
        if step == self._at and not self.stands.is_set():
            self.stands.set()
            assert self.go.wait(timeout=30), "the test forgot this batch"
        return ends


@contextmanager
def running(engine: Engine, prompts: Sequence[Sequence[int]], on_token: OnToken) -> Iterator[None]:
    """A batch in a thread of its own, which has ended at the end."""
    thread = threading.Thread(
        target=engine.run,
        args=(prompts,),
        kwargs={"sampling": GREEDY, "max_new": 30, "on_token": on_token},
    )
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_a_callback_that_blocks_freezes_its_batch_and_nothing_else(case: Case) -> None:
    """Others run to their ends meanwhile, as many as there are lanes; then it goes on as if nothing had been."""
    prompts = [prompt(6, first) for first in (40, 50)]
    free = run(case.engine, prompts, 30)
    halts = [Halt(at) for at in (0, 3, 7)]
    with ExitStack() as stack:
        for halt in halts:
            stack.enter_context(running(case.engine, prompts, halt))
        for halt in halts:
            stack.callback(halt.go.set)  # whatever fails here
            assert halt.stands.wait(timeout=30)
        made = [len(halt.calls.seen) for halt in halts]
        others = [run(case.engine, prompts, 30).seen for _ in range(3)]
        assert others == [free.seen] * 3
        assert [len(halt.calls.seen) for halt in halts] == made
    assert [halt.calls.seen for halt in halts] == [free.seen] * 3


def test_a_batch_that_was_frozen_can_be_ended(case: Case) -> None:
    """By the answer of the callback that froze it: no step more is computed."""
    halt = Halt(at=3)
    halt.calls.end_after = {0: 4}
    with running(case.engine, [prompt(6)], halt):
        try:
            assert halt.stands.wait(timeout=30)
        finally:
            halt.go.set()
    assert halt.calls.steps_of(0) == [0, 1, 2, 3]


def test_a_batch_takes_no_cpu_while_it_is_frozen(case: Case) -> None:
    """The engine waits with it, and does not ask again and again."""
    halt = Halt(at=2)
    with running(case.engine, [prompt(6)], halt):
        try:
            assert halt.stands.wait(timeout=30)
            used_s, began_s = time.process_time(), time.monotonic()
            threading.Event().wait(0.3)
            share = (time.process_time() - used_s) / (time.monotonic() - began_s)
        finally:
            halt.go.set()
    assert share < 0.5
