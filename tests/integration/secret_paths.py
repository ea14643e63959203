"""Every way that content takes through a mesh, failures included, with a marked secret in each piece of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc.aio
from nats.aio.client import Client

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.client.unbroken import Event
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Accepted, Outcome, TokenChunk
from headrace.v1 import common_pb2, inference_pb2
from headrace.v1.inference_pb2_grpc import InferenceServiceStub

SECRET = "XYZZY7SECRET"
"""Stands in every prompt, text, message and stop string."""
GENERATES, SHADOWS, EMBEDS, TRANSLATES = "fake", "second", "fake-embed", "tiny-marian"
CHAT = "chat"
"""An alias of GENERATES, whose requests are copied for SHADOWS."""


class Heard:
    """What clients were told, and what they were given as output."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.outputs: list[str] = []
        self.vectors: list[bytes] = []
        self.ids: list[str] = []

    async def ask(self, client: HeadraceClient, *, leave_after: int = 0, **ask: Any) -> None:
        """One request, to its end or until so many tokens have come."""
        await self.hear(client.generate(model=ask.pop("model", GENERATES), **ask), leave_after)

    async def hear(self, stream: AsyncGenerator[Event, None], leave_after: int = 0) -> None:
        """The same of any stream."""
        text, tokens = "", 0
        try:
            async with aclosing(stream) as events:
                async for event in events:
                    if isinstance(event, Accepted):
                        self.ids.append(event.request_id)
                    elif isinstance(event, TokenChunk):
                        text += event.text
                        tokens += len(event.token_ids)
                        if leave_after and tokens >= leave_after:
                            break
                    elif isinstance(event, Outcome) and event.failure is not None:
                        self.errors.append(event.failure.message)
        except HeadraceError as error:
            self.errors.append(str(error))
        if len(text) >= 20:
            self.outputs.append(text)

    async def embed(self, client: HeadraceClient, texts: list[str], model: str = EMBEDS) -> None:
        """One request to embed."""
        try:
            outcome = await client.embed(texts, model=model)
        except HeadraceError as error:
            self.errors.append(str(error))
            return
        self.ids.append(outcome.request_id)
        for vector, numbers in zip(outcome.vectors, outcome.embeddings, strict=True):
            self.vectors += [vector[:16], repr(numbers[0])[:12].encode()]

    def marks(self) -> list[bytes]:
        """What must be found nowhere: the secret, and pieces of all that was made of it."""
        return [SECRET.encode(), *(output[3:23].encode() for output in self.outputs), *self.vectors]


async def every_way(client: HeadraceClient, heard: Heard) -> None:
    """Requests over gRPC that end in every way there is."""
    prompt = f"say {SECRET} again"
    chat = [{"role": "system", "content": SECRET}, {"role": "user", "content": prompt}]
    await heard.ask(client, prompt=prompt, max_tokens=40, ignore_end=True)
    await heard.ask(client, messages=chat, max_tokens=40, ignore_end=True, stop=[SECRET])
    await heard.ask(
        client, prompt=f"\x00{SECRET}", max_tokens=5
    )  # the engine fails at once, everywhere: a dead letter
    await heard.ask(client, prompt=f"\x01{SECRET}", max_tokens=50, ignore_end=True)  # and after some steps
    await heard.ask(client, prompt=prompt, max_tokens=4000, ignore_end=True, timeout_s=0.3)
    await heard.ask(client, prompt=prompt, max_tokens=4000, ignore_end=True, leave_after=5)
    await heard.ask(client, prompt=f"{SECRET} " * 2_000, max_tokens=5)  # longer than the model's context
    await heard.ask(client, prompt=prompt, messages=chat, max_tokens=5)
    await heard.ask(client, prompt=prompt, max_tokens=5, stop=[SECRET] * 100)
    await heard.ask(client, prompt=prompt, max_tokens=5, temperature=-1.0)
    await heard.ask(client, prompt=prompt, model="nobody-has-it", max_tokens=5)
    await heard.ask(client, prompt=prompt, max_tokens=5, request_id=SECRET)
    await heard.ask(client, messages=[{"role": SECRET, "content": prompt}], max_tokens=5)


async def hostile_bytes(address: str, heard: Heard) -> None:
    """What a broken client sends: bytes that are no message, with the secret in them."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_stream("/headrace.v1.InferenceService/Generate")
        for body in (b"\xff" + SECRET.encode(), SECRET.encode() * 10):
            try:
                async for _ in call(body):
                    pass
            except grpc.aio.AioRpcError as error:
                heard.errors.append(error.details() or "")
        stub = InferenceServiceStub(channel)
        try:
            await stub.Submit(
                inference_pb2.SubmitRequest(
                    request=inference_pb2.GenerateRequest(
                        model="fake", prompt=SECRET, sampling=common_pb2.Sampling(top_p=7)
                    )
                )
            )
        except grpc.aio.AioRpcError as error:
            heard.errors.append(error.details() or "")


async def over_nats(nc: Client, heard: Heard) -> None:
    """Raw producers: one that is answered, and messages that nobody can read."""
    js = nc.jetstream()
    subject = "hr.v1.req.fake.normal.default"
    inbox = nc.new_inbox()
    events = await nc.subscribe(inbox)
    ask = {"prompt": f"say {SECRET}", "max_tokens": 30, "sampling": {"ignore_end": True}, "reply_to": inbox}
    await js.publish(subject, json.dumps(ask).encode())
    text = ""
    async with asyncio.timeout(20):
        async for message in events.messages:
            event = json.loads(message.data)
            text += event.get("tokens", {}).get("text", "")
            if "finished" in event:
                break
    heard.outputs.append(text)
    bodies = (
        f'{{"prompt": "{SECRET}"'.encode(),
        json.dumps({"prompt": SECRET, "max_tokens": SECRET}).encode(),
        json.dumps({SECRET: SECRET}).encode(),
        json.dumps({"prompt": SECRET, "reply_to": f"hr.v1.req.{SECRET}"}).encode(),
        SECRET.encode(),
    )
    for body in bodies:
        await js.publish(subject, body)
    await js.publish(subject, SECRET.encode(), headers={"Content-Type": "application/protobuf"})


async def other_tasks(client: HeadraceClient, heard: Heard) -> None:
    """Vectors and translations, and what cannot become one."""
    await heard.embed(client, [f"{SECRET} {number}" for number in range(40)])
    await heard.embed(client, [f"\x00{SECRET}"])  # the engine fails at once
    await heard.embed(client, [SECRET, f"{SECRET} " * 2_000])  # longer than the model's context
    await heard.embed(client, [SECRET, ""])
    await heard.embed(client, [SECRET] * 1_000)
    await heard.embed(client, [SECRET], GENERATES)
    ask: Any = {"model": TRANSLATES, "text": f"say {SECRET} again", "target_language": "fra"}
    await heard.hear(client.translate(**ask, max_tokens=40, ignore_end=True))
    await heard.hear(client.translate(**ask, max_tokens=10, beam_size=2))
    await heard.hear(client.translate(**{**ask, "target_language": SECRET}))
    await heard.hear(client.translate(**{**ask, "text": f"{SECRET} " * 200}))
    await heard.hear(client.translate(**{**ask, "model": GENERATES}))


async def prompts_that_are_kept(client: HeadraceClient, admin: AdminClient, heard: Heard) -> None:
    """A static prompt with the secret, which workers keep computed; and requests that are copied for a shadow."""
    system = f"You keep {SECRET}, and speak of nothing else."
    await admin.set_static_prompts(GENERATES, [system])
    chat = [{"role": "system", "content": system}, {"role": "user", "content": SECRET}]
    async with asyncio.timeout(20):
        while not (await admin.static_prompts())[1]:  # routers hear of it within milliseconds
            await heard.ask(client, messages=chat, max_tokens=20, ignore_end=True)
    for prompts in ([f"{SECRET}" * 10_000], [SECRET] * 17, [SECRET, ""]):
        try:
            await admin.set_static_prompts(GENERATES, prompts)
        except HeadraceError as error:
            heard.errors.append(str(error))
    await admin.set_alias(CHAT, GENERATES)
    await admin.shadow(CHAT, SHADOWS, share=1.0)
    async with asyncio.timeout(20):
        while not [one for state in await admin.aliases() for one in state.counts.shadows if one.same]:
            await heard.ask(client, model=CHAT, prompt=SECRET, max_tokens=30, ignore_end=True)
