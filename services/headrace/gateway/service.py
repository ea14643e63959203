"""The eight RPCs. Each error of the tree that they raise becomes a status in the server's interceptor."""

# ruff: noqa: N802 — the proto names the methods
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from headrace.contract.common_wire import decode_duration
from headrace.contract.errors import InvalidRequest, NotFound
from headrace.contract.inference_wire import (
    cancel_response,
    decode_generate,
    decode_result_key,
    generate_response,
    models_response,
    result_response,
)
from headrace.contract.task_wire import (
    decode_embed,
    decode_submit,
    decode_translate,
    embed_response,
    translate_response,
)
from headrace.gateway.attach import Attaching
from headrace.gateway.cancel import Cancels
from headrace.gateway.catalogue import Catalogue
from headrace.gateway.embed import Embeddings
from headrace.gateway.generate import Generation
from headrace.gateway.results import Results
from headrace.gateway.stalls import watched
from headrace.gateway.submit import Submission
from headrace.runtime.grpc_handlers import ServicerContext
from headrace.v1.inference_pb2_grpc import InferenceServiceServicer

NAME = "headrace.v1.InferenceService"

MAX_WAIT_S = 300.0
"""The longest wait that GetResult may be asked for."""


class InferenceService(InferenceServiceServicer):
    """InferenceService. Holds no state of its own."""

    def __init__(
        self,
        *,
        generation: Generation,
        embeddings: Embeddings,
        attaching: Attaching,
        submission: Submission,
        results: Results,
        cancels: Cancels,
        catalogue: Catalogue,
        result_wait_s: float,
        router_wait_s: float,
    ) -> None:
        """The longest waits: of one GetResult for an outcome, and of ListModels for a first router."""
        self._generation = generation
        self._embeddings = embeddings
        self._attaching = attaching
        self._submission = submission
        self._results = results
        self._cancels = cancels
        self._catalogue = catalogue
        self._result_wait_s = result_wait_s
        self._router_wait_s = router_wait_s

    async def Generate(self, request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        """Accepted, tokens, finished."""
        asked = decode_generate(request)
        stream = self._generation.stream(asked, context.time_remaining())
        async with aclosing(stream), aclosing(watched(stream)) as events:
            async for event in events:
                yield generate_response(event)

    async def Translate(self, request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        """Accepted, tokens, finished."""
        asked = decode_translate(request)
        stream = self._generation.stream(asked, context.time_remaining())
        async with aclosing(stream), aclosing(watched(stream)) as events:
            async for event in events:
                yield translate_response(event)

    async def Embed(self, request: Any, context: ServicerContext) -> Any:
        """The outcome, with the vectors."""
        asked = decode_embed(request)
        return embed_response(await self._embeddings.embed(asked, context.time_remaining()))

    async def Attach(self, request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        """Accepted, tokens from an index on, finished."""
        stream = self._attaching.stream(request)
        async with aclosing(stream), aclosing(watched(stream)) as responses:
            async for response in responses:
                yield response

    async def Submit(self, request: Any, context: ServicerContext) -> Any:
        """Accepted."""
        return await self._submission.submit(decode_submit(request))

    async def GetResult(self, request: Any, context: ServicerContext) -> Any:
        """The durable outcome."""
        tenant, request_id = decode_result_key(request)
        wait_s = decode_duration(request.wait)
        if not 0 <= wait_s <= MAX_WAIT_S:
            raise InvalidRequest("wait", f"must lie in 0 … {MAX_WAIT_S:g} s (was {wait_s:g} s)")
        outcome = await self._results.wait(tenant, request_id, min(wait_s, self._result_wait_s))
        if outcome is None:
            raise NotFound("outcome yet, or no longer, of request", request_id)
        return result_response(outcome)

    async def Cancel(self, request: Any, context: ServicerContext) -> Any:
        """The outcome's kind."""
        tenant, request_id = decode_result_key(request)
        return cancel_response(await self._cancels.cancel(tenant, request_id))

    async def ListModels(self, request: Any, context: ServicerContext) -> Any:
        """All routers' models."""
        await self._catalogue.wait_connected(self._router_wait_s)
        return models_response(self._catalogue.models())
