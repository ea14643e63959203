"""What the clients ask for: a function of the seed, the client and the request's number."""

from __future__ import annotations

import enum
import random
import string
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

TENANT = "default"
"""Whose all requests are."""
FIRST_MS = 1_700_000_000_000
"""The time in the ids. They are drawn, so that a replay has the same ones: no store holds those of two runs."""


POISONED_TOKENS = 200
"""More than its attempts make, some tokens each, even where a router that is lost forgets how many there were."""


class Way(enum.Enum):
    """How a client asks, and what it does while it is answered."""

    STREAM = "stream"
    SLOW = "slow"
    """Pauses at each event."""
    CANCEL = "cancel"
    """Cancels by RPC in the middle, and reads on."""
    HANG_UP = "hang up"
    """Ends its call in the middle."""
    DEADLINE = "deadline"
    """Its call has a deadline, which may come before the answer."""
    SUBMIT = "submit"
    """Leaves, and fetches the result."""
    NATS = "nats"
    """Publishes JSON and listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, and how its client behaves."""

    client: str
    number: int
    way: Way
    request_id: str
    prompt: str
    max_tokens: int
    stop: tuple[str, ...] = ()
    priority: str = "normal"
    ignore_end: bool = False
    sampled: bool = False
    """Each attempt is a new draw, so nobody knows the answer beforehand; stream and outcome are one all the same."""
    poison: bool = False
    """Its prompt makes the engine fail at each attempt."""
    gateway: int = 0
    """Which gateway is tried first."""
    act_at: int = 0
    """The token at which it cancels or hangs up."""
    pause_s: float = 0.0
    """Of a slow reader, at each event."""
    timeout_s: float | None = None
    think_s: float = 0.0
    """Before it asks."""
    header_only: bool = False
    """On NATS: the id stands in the header alone."""

    @property
    def name(self) -> str:
        return f"{self.client}/{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What prompts are made of. `fixed`: these alone, for a model whose answers are known for few."""

    fixed: tuple[str, ...] = ()
    lengths: tuple[int, ...] = (16, 32, 48)
    """Few, so that requests share batches."""
    tokens: tuple[int, int] = (6, 120)

    def draw(self, rng: random.Random, *, poison: bool, ends: bool) -> str:
        if self.fixed:
            return rng.choice(self.fixed)
        commands = "\x01" * poison + "\x04" * ends
        length = rng.choice(self.lengths) - len(commands)
        return commands + "".join(rng.choices(string.ascii_lowercase + " ", k=length))


def requests_of(
    seed: int,
    client: str,
    way: Way,
    prompts: Prompts,
    *,
    poison_odds: float,
    sampled_odds: float,
    think_s: float,
) -> Iterator[Asked]:
    """The requests of one client, without end."""
    rng = random.Random(f"{seed} {client}")
    number = 0
    while True:
        number += 1
        low, high = prompts.tokens
        most = int(low * (high / low) ** rng.random())
        poison = way in (Way.STREAM, Way.NATS, Way.SUBMIT) and rng.random() < poison_odds
        ends = rng.random() < 0.3 and not poison
        stop = (rng.choice(("et", "nn ", "a i", "zz")),) if rng.random() < 0.15 else ()
        yield Asked(
            client=client,
            number=number,
            way=way,
            request_id=_draw_id(rng, number),
            prompt=prompts.draw(rng, poison=poison, ends=ends),
            max_tokens=POISONED_TOKENS if poison else most,
            stop=() if poison else stop,
            priority=rng.choices(("realtime", "high", "normal", "batch"), (1, 2, 6, 1))[0],
            ignore_end=rng.random() < 0.3,
            # Not on NATS, where chunks come again after the loss of a router, as another draw.
            sampled=rng.random() < sampled_odds and way is not Way.NATS,
            poison=poison,
            gateway=rng.randrange(2),
            act_at=rng.randint(0, most),
            pause_s=rng.uniform(0.05, 0.4) if way is Way.SLOW else 0.0,
            timeout_s=rng.uniform(0.2, 2.5) if way is Way.DEADLINE else None,
            think_s=rng.expovariate(1 / think_s) if think_s else 0.0,
            header_only=rng.random() < 0.5,
        )


def _draw_id(rng: random.Random, number: int) -> str:
    raw = bytearray((FIRST_MS + number).to_bytes(6, "big") + rng.randbytes(10))
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return str(uuid.UUID(bytes=bytes(raw)))
