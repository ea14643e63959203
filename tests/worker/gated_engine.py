"""An engine whose steps a test lets through one by one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from headrace.contract.values import Sampling
from headrace.contract.work import ServedModel
from headrace.models.detokeniser import Detokeniser
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from headrace.worker.engine import Engine, OnToken
from headrace.worker.fake_engine import FakeEngine
from headrace.worker.serving import ServingModel

VOCAB_SIZE, END_ID, CONTEXT = 258, 257, 256


class GatedEngine:
    """The fake engine, which waits before each step until `let` allows it."""

    def __init__(self) -> None:
        self._engine = FakeEngine(FakeTiming(), vocab_size=VOCAB_SIZE, end_id=END_ID)
        self._gate = threading.Semaphore(0)
        self._asking = threading.Condition()
        self._steps_asked = 0
        self.steps_begun = 0

    def let(self, steps: int) -> None:
        """Lets that many steps through."""
        self._gate.release(steps)

    async def stands_before(self, step: int) -> None:
        """Returns when that step, counted from 1 over all lanes, waits to be let through: all before it are over."""

        def asked() -> None:
            with self._asking:
                assert self._asking.wait_for(lambda: self._steps_asked >= step, timeout=30), (
                    "no step was asked for"
                )

        await asyncio.to_thread(asked)

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        reached = -1

        def gated(entry: int, token_id: int, step: int, last: bool) -> bool:
            nonlocal reached
            if step != reached:
                with self._asking:
                    self._steps_asked += 1
                    self._asking.notify_all()
                assert self._gate.acquire(timeout=30), "the test forgot a step"
                reached = step
                self.steps_begun += 1
            return on_token(entry, token_id, step, last)

        self._engine.run(prompts, sampling=sampling, max_new=max_new, on_token=gated)

    def close(self) -> None:
        pass


def serving(engine: Engine, store: ModelStore) -> ServingModel:
    """`engine` as the model `fake`."""
    tokeniser = Tokeniser.load(install_fake_model(store))
    return ServingModel(
        served=ServedModel(name="fake", version="1", compute_type="none"),
        engine=engine,
        vocab_size=VOCAB_SIZE,
        context_length=CONTEXT,
        end_ids={END_ID},
        new_detokeniser=lambda: Detokeniser(tokeniser),
    )
