"""Good requests between the hostile ones: each must be answered, and correctly."""

from __future__ import annotations

import asyncio
import json

from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.values import OutcomeKind, Priority
from headrace.runtime.nats_client import NatsClient

PROMPTS = ("once upon a time", "the quick brown fox", "in the beginning", "call me")
TOKENS = 24
ANSWER_S = 60.0


class Good:
    """Asks, over gRPC and NATS, and compares with what an undisturbed mesh answered."""

    def __init__(self, client: HeadraceClient, nc: NatsClient) -> None:
        self._client = client
        self._nc = nc
        self._expected: dict[str, str] = {}
        self.answered = 0
        self.faults: list[str] = []

    async def learn(self) -> None:
        """Asks for each prompt once, with nothing else in the mesh."""
        for prompt in PROMPTS:
            self._expected[prompt] = await self._over_grpc(prompt)

    async def ask(self, number: int) -> None:
        """Asks once, by one of the two ways."""
        prompt = PROMPTS[number % len(PROMPTS)]
        way = self._over_grpc if number % 2 else self._over_nats
        try:
            async with asyncio.timeout(ANSWER_S):
                text = await way(prompt)
        except (HeadraceError, TimeoutError) as error:
            self.faults.append(f"good request {number} ({way.__name__}): {type(error).__name__}: {error}")
            return
        if text != self._expected[prompt]:
            self.faults.append(f"good request {number} ({way.__name__}) was answered wrongly")
        self.answered += 1

    async def _over_grpc(self, prompt: str) -> str:
        outcome = await self._client.complete(
            model="fake",
            prompt=prompt,
            max_tokens=TOKENS,
            ignore_end=True,
            tenant="good",
            priority=Priority.REALTIME,
        )
        return outcome.text if outcome.kind is OutcomeKind.COMPLETED else f"({outcome.kind.value})"

    async def _over_nats(self, prompt: str) -> str:
        inbox = self._nc.new_inbox()
        events = await self._nc.subscribe(inbox)
        ask = {"prompt": prompt, "max_tokens": TOKENS, "sampling": {"ignore_end": True}, "reply_to": inbox}
        await self._nc.jetstream().publish("hr.v1.req.fake.realtime.good", json.dumps(ask).encode())
        text = ""
        async for message in events.messages:
            event = json.loads(message.data)
            text += event.get("tokens", {}).get("text", "")
            if "finished" in event:
                break
        await events.unsubscribe()
        return text if event["finished"]["kind"] == "OUTCOME_KIND_COMPLETED" else event["finished"]["kind"]
