"""Connections to a mesh's gateways, and what can be asked of it.

async with HeadraceClient("127.0.0.1:7700") as client:
    async for event in client.generate(prompt="The capital of France is", model="smollm2"):
        if isinstance(event, TokenChunk):
            print(event.text, end="")
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack

from headrace.client.failures import error_of_failure
from headrace.client.gateways import Gateways
from headrace.client.request import AnyAsk, Ask, TranslationAsk, request_of
from headrace.client.unbroken import LONGEST_WAIT_S, Event, Unbroken
from headrace.contract import client_wire as wire
from headrace.contract.deliver import Model
from headrace.contract.errors import HeadraceError, NotFound
from headrace.contract.ids import new_request_id
from headrace.contract.inference_wire import DEFAULT_TENANT, Attachment, encode_attach, encode_generate
from headrace.contract.requests import Request
from headrace.contract.task_wire import decode_embed_response, encode_embed, encode_submit, encode_translate
from headrace.contract.values import Accepted, Outcome, OutcomeKind, Priority, Task, TokenChunk
from headrace.runtime.grpc_tracing import call_metadata
from headrace.runtime.keepalive import CLIENT_KEEPALIVE, Keepalive
from headrace.v1.inference_pb2_grpc import InferenceServiceStub

ANSWER_S = 10.0
"""How long a gateway may take to answer a call that it answers at once; a request's own time is another matter."""


class HeadraceClient:
    """A mesh as seen through one of its gateways, for any number of calls at once. Use it as `async with`.

    Calls raise errors of `headrace.contract.errors`. The trace that is current where a call is made goes with it.
    """

    def __init__(
        self, address: str, *, reattach: bool = True, keepalive: Keepalive = CLIENT_KEEPALIVE
    ) -> None:
        """`address` is a gateway's `host:port`, or those of several with commas between: where one does not answer, the
        next one is called. Connections are made with the first call, and remade when lost.

        `reattach`: a stream whose gateway is lost goes on at the next one, or at the same when it is back. Else its
        error is raised. Raises InvalidRequest.
        """
        self.address = address
        self._gateways = Gateways(address, InferenceServiceStub, keepalive)
        self._reattach = reattach
        self._is_open = False

    def __repr__(self) -> str:
        return f"<HeadraceClient {self.address}{'' if self._is_open else ', closed'}>"

    async def __aenter__(self) -> Self:
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._is_open = False
        await self._gateways.close()

    async def generate(
        self, *, model: str, keep: bool = False, **ask: Unpack[Ask]
    ) -> AsyncGenerator[Event, None]:
        """The events of a request as they come: Accepted, places in the queue and tokens, and the Outcome last.

        An outcome that is an error is raised as that error; completed and cancelled ones are given. Closing the
        iterator before its end cancels the request; with `keep` it goes on, and `attach` returns to it. Tokens have the
        indices 0, 1, 2, … without gap or repeat.
        """
        request = replace(self._identified(request_of(model, ask)), keep=keep)
        async with aclosing(self._stream(request, "Generate", ask.get("timeout_s"))) as events:
            async for event in events:
                yield event

    async def translate(
        self, *, model: str, text: str, keep: bool = False, **ask: Unpack[TranslationAsk]
    ) -> AsyncGenerator[Event, None]:
        """The events of a translation as they come, as `generate` gives them. With `beam_size` above 1 all of its
        tokens come at once.
        """
        request = replace(
            self._identified(request_of(model, {**ask, "prompt": text})), task=Task.TRANSLATE, keep=keep
        )
        async with aclosing(self._stream(request, "Translate", ask.get("timeout_s"))) as events:
            async for event in events:
                yield event

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        priority: Priority | str = Priority.NORMAL,
        tenant: str = DEFAULT_TENANT,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Outcome:
        """The vectors of texts: the `embeddings` of the outcome, one for each text, in their order.

        An outcome that is an error is raised as that error. Cancelling the caller cancels the request.
        """
        ask: AnyAsk = {
            "task": Task.EMBED,
            "texts": texts,
            "priority": priority,
            "tenant": tenant,
            "request_id": request_id,
        }
        request = self._identified(request_of(model, ask))
        response = await self._open().finish("Embed", encode_embed(request), timeout_s, call_metadata)
        outcome = decode_embed_response(response)
        _checked(outcome)
        return outcome

    async def _stream(
        self, request: Request, method: str, timeout_s: float | None
    ) -> AsyncGenerator[Event, None]:
        """The events of a request whose first call is `method`."""
        keep = request.keep
        if keep and timeout_s is not None:  # the call's end is not the request's
            request = replace(request, deadline_s=time.time() + timeout_s)
        message = encode_translate(request) if request.task is Task.TRANSLATE else encode_generate(request)
        stream = Unbroken(
            self._open(),
            lambda stub, left_s: getattr(stub, method)(message, timeout=left_s, metadata=call_metadata()),
            tenant=request.tenant,
            request_id=request.id,
            timeout_s=timeout_s,
            reattach=self._reattach,
        )
        try:
            async with aclosing(stream.events()) as events:
                async for event in events:
                    yield _checked(event)
        except (asyncio.CancelledError, GeneratorExit):
            if stream.adrift and not (stream.ended or keep):
                # The call that published it has broken; the end of the one that goes on with it ends nothing.
                await self._cancel_quietly(stream.request_id, request.tenant)
            raise

    async def attach(
        self,
        request_id: str,
        from_index: int = 0,
        *,
        tenant: str = DEFAULT_TENANT,
        wait_s: float | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Event, None]:
        """The events of a request that `submit` or a kept `generate` has left with the mesh, as `generate` gives them:
        its tokens from `from_index` on. While it waits, while it runs, and after, any number of times.

        Raises NotFound where no router has taken it up within `wait_s`, by default 30 s, and it has no outcome. Closing
        the iterator ends nothing else. `timeout_s` is for the whole stream.
        """
        wanted = Attachment(tenant=tenant, request_id=request_id, from_index=from_index, wait_s=wait_s)
        message = encode_attach(wanted)
        stream = Unbroken(
            self._open(),
            lambda stub, left_s: stub.Attach(message, timeout=left_s, metadata=call_metadata()),
            tenant=tenant,
            request_id=request_id,
            from_index=from_index,
            timeout_s=timeout_s,
            reattach=self._reattach,
        )
        async with aclosing(stream.events()) as events:
            async for event in events:
                yield _checked(event)

    async def complete(self, *, model: str, **ask: Unpack[Ask]) -> Outcome:
        """The outcome of a request with its whole text and token ids. Cancelling the caller cancels the request."""
        chunks: list[TokenChunk] = []
        async with aclosing(self.generate(model=model, **ask)) as events:
            async for event in events:
                if isinstance(event, TokenChunk):
                    chunks.append(event)
                elif isinstance(event, Outcome):
                    return replace(
                        event,
                        text="".join(chunk.text for chunk in chunks),
                        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
                        text_lengths=tuple(length for chunk in chunks for length in chunk.lengths),
                    )
        raise AssertionError("generate ends with an outcome or raises")

    async def submit(self, *, model: str, **ask: Unpack[AnyAsk]) -> Accepted:
        """Queues a request and returns; `attach` gives its tokens, `result` its outcome.

        `timeout_s` becomes the request's deadline.
        """
        request = self._identified(request_of(model, ask))
        if (timeout_s := ask.get("timeout_s")) is not None:
            request = replace(request, deadline_s=time.time() + timeout_s)
        response = await self._ask("Submit", encode_submit(request), ANSWER_S)
        return wire.decode_submit_response(response)

    async def result(self, request_id: str, *, tenant: str = DEFAULT_TENANT, wait_s: float = 0.0) -> Outcome:
        """The outcome, whole, however it ended. Raises NotFound where there is none after `wait_s`.

        Asks again where the gateway waits for less than that at a time.
        """
        until_s = time.monotonic() + wait_s
        while True:
            left_s = max(0.0, min(until_s - time.monotonic(), LONGEST_WAIT_S))
            message = wire.encode_get_result(tenant, request_id, left_s)
            try:
                return wire.decode_result_response(await self._ask("GetResult", message, left_s + ANSWER_S))
            except NotFound:
                if time.monotonic() >= until_s:
                    raise

    async def cancel(self, request_id: str, *, tenant: str = DEFAULT_TENANT) -> OutcomeKind:
        """Ends a request, waiting or running, and gives the outcome that it has now."""
        response = await self._ask("Cancel", wire.encode_cancel(tenant, request_id), ANSWER_S)
        return wire.decode_cancel_response(response)

    async def models(self) -> tuple[Model, ...]:
        """The models that can be asked for."""
        return wire.decode_models_response(await self._ask("ListModels", wire.encode_list_models(), ANSWER_S))

    def _identified(self, request: Request) -> Request:
        """The request with an id, where it may have to be sent to several gateways: so it is done once."""
        return (
            replace(request, id=new_request_id()) if len(self._gateways) > 1 and not request.id else request
        )

    async def _ask(self, method: str, message: Any, timeout_s: float) -> Any:
        return await self._open().ask(method, message, timeout_s, call_metadata())

    async def _cancel_quietly(self, request_id: str, tenant: str) -> None:
        with contextlib.suppress(HeadraceError):
            await self.cancel(request_id, tenant=tenant)

    def _open(self) -> Gateways:
        if not self._is_open:
            raise RuntimeError("the client is closed: use it inside `async with`")
        return self._gateways


def _checked(event: Event) -> Event:
    """Gives back an event that is no error, and raises the error of an outcome that is."""
    if not isinstance(event, Outcome) or event.kind in (OutcomeKind.COMPLETED, OutcomeKind.CANCELLED):
        return event
    if event.failure is None:
        error = HeadraceError(f"request {event.request_id} ended as {event.kind.value}, without a reason")
    else:
        error = error_of_failure(event.failure)
    error.request_id = event.request_id
    raise error
