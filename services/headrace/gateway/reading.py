"""What a client gets of its request, in order: the events of its stream, whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from headrace.contract.errors import InvalidRequest, OutputLost
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk
from headrace.gateway.audience import Stream
from headrace.gateway.relay import Event, pieces_of
from headrace.gateway.results import Results
from headrace.gateway.tracing import describe_outcome


class Reading:
    """Reads streams to their end, and fills their gaps from the durable outcomes."""

    def __init__(self, results: Results) -> None:
        self._results = results

    async def events(self, stream: Stream) -> AsyncGenerator[Event, None]:
        """Places and tokens as they come, and the outcome last.

        Raises what the stream fails with; OutputLost where tokens are lost for good; InvalidRequest where the client
        asked for tokens beyond those of a completed request.
        """
        while not isinstance(event := await stream.relay.read(), Outcome):
            yield event
        if stream.relay.lacks(event):
            for chunk in await self._rest_of(stream):
                yield chunk
        _check_within(stream, event)
        describe_outcome(event)
        yield event

    async def _rest_of(self, stream: Stream) -> list[TokenChunk]:
        """The tokens that got lost on their way here, from the durable outcome."""
        whole = await self._results.find(stream.tenant, stream.request_id)
        rest = None if whole is None else stream.relay.rest_of(whole)
        if rest is None:
            raise OutputLost(stream.request_id, stream.relay.next_index)
        return list(pieces_of(rest))


def _check_within(stream: Stream, outcome: Outcome) -> None:
    made, first = outcome.usage.output_tokens, stream.relay.first_index
    if outcome.kind is OutcomeKind.COMPLETED and first > made:
        raise InvalidRequest("from_index", f"is {first}; the request was completed with {made} tokens")
