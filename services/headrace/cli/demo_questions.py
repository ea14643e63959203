"""The two ways into the mesh that the demo shows: a gRPC call, and an event."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import nats
from rich.text import Text

from headrace.cli.demo_view import DemoView
from headrace.cli.mesh import Mesh
from headrace.client.client import HeadraceClient
from headrace.contract.ids import new_request_id
from headrace.contract.queue_wire import decode_result
from headrace.contract.subjects import (
    CONTENT_TYPE_JSON,
    RESULTS_STREAM,
    Queue,
    result_subject,
    token_subject,
)
from headrace.contract.values import Priority, TokenChunk

_TENANT = "default"
_MAX_TOKENS = 100
_ANSWER_S = 60.0
"""For one short answer of a small model; a slow machine takes some seconds."""


async def ask_over_grpc(view: DemoView, mesh: Mesh, model: str, question: str) -> None:
    """A question through the gateway, its answer streamed back over the same call."""
    with view.step("A question over gRPC") as say:
        subject = Queue(model=model, priority=Priority.NORMAL, tenant=_TENANT).subject
        say(
            Text(f"here → gateway {mesh.gateway} → {mesh.nats_shown} {subject}", style="dim"),
            Text(f"     → router {mesh.router} → worker → router → gateway → here", style="dim"),
        )
        messages = [{"role": "user", "content": question}]
        async with HeadraceClient(mesh.gateway) as client:
            events = client.generate(
                model=model, messages=messages, max_tokens=_MAX_TOKENS, timeout_s=_ANSWER_S
            )
            async with aclosing(events):
                with view.ask(question, model) as answer:
                    async for event in events:
                        answer.show(event)


async def ask_by_event(view: DemoView, mesh: Mesh, model: str, question: str) -> None:
    """A question as a JSON message on a queue, its answer from the token subject, its outcome from the broker."""
    with view.step("A question by an event, with nothing but a NATS client") as say:
        request_id = new_request_id()
        subject = Queue(model=model, priority=Priority.NORMAL, tenant=_TENANT).subject
        tokens, result = token_subject(_TENANT, request_id), result_subject(_TENANT, request_id)
        say(
            Text(f"publish    {subject}", style="dim"),
            Text(f"tokens on  {tokens}", style="dim"),
            Text(f"result on  {result}", style="dim"),
        )
        request = {"messages": [{"role": "user", "content": question}], "max_tokens": _MAX_TOKENS}
        connection = await nats.connect(mesh.nats_shown)
        try:
            async with asyncio.timeout(_ANSWER_S):
                broker = connection.jetstream()
                heard = await connection.subscribe(tokens)
                with view.ask(question, model) as answer:
                    await broker.publish(
                        subject, json.dumps(request).encode(), headers={"Nats-Msg-Id": request_id}
                    )
                    async for message in heard.messages:
                        event = json.loads(message.data)
                        if "finished" in event:
                            break
                        answer.show(_chunk(event["tokens"]))
                    kept = await broker.get_last_msg(RESULTS_STREAM, result)
                    answer.show(decode_result(kept.data or b"", CONTENT_TYPE_JSON))
        finally:
            await connection.close()


def _chunk(tokens: Any) -> TokenChunk:
    return TokenChunk(
        first_index=tokens["first_index"], token_ids=tuple(tokens["token_ids"]), text=tokens["text"]
    )
