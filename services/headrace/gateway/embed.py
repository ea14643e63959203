"""A request to embed with a client that waits for its vectors: from the call to its one response."""

from __future__ import annotations

from contextlib import aclosing

from headrace.contract.errors import OutputLost
from headrace.contract.requests import Request
from headrace.contract.values import Outcome, OutcomeKind
from headrace.gateway.generate import Generation
from headrace.gateway.results import Results


class Embeddings:
    """Answers Embed calls: streams that have no tokens."""

    def __init__(self, generation: Generation, results: Results) -> None:
        self._generation = generation
        self._results = results

    async def embed(self, decoded: Request, remaining_s: float | None) -> Outcome:
        """How the request ended, with its vectors where it completed.

        `remaining_s` is what is left of the call's deadline. Raises an error of the tree for whatever is refused, and
        OutputLost where the vectors are kept nowhere.
        """
        outcome: Outcome | None = None
        async with aclosing(self._generation.stream(decoded, remaining_s)) as events:
            async for event in events:
                if isinstance(event, Outcome):
                    outcome = event
        assert outcome is not None, "a stream ends with an outcome or raises"
        if outcome.kind is not OutcomeKind.COMPLETED or outcome.vectors:
            return outcome
        # They were too many for the end of the stream: the durable outcome has them.
        whole = await self._results.find(decoded.tenant, outcome.request_id)
        if whole is None or not whole.vectors:
            raise OutputLost(outcome.request_id, 0)
        return whole
