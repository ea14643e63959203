"""What the clients ask for: a function of the seed, the client and the request's number."""

from __future__ import annotations

import enum
import random
import string
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

TENANTS = ("default", "mill", "weir")
"""Whose the requests are. `oracle.TENANT` is another, so that the undisturbed runs are told apart."""
FIRST_MS = 1_700_000_000_000
"""The time in the ids. They are drawn, so that a replay has the same ones: no store holds those of two runs."""

POISONED_TOKENS = 200
"""More than its attempts make, some tokens each, even where a router that is lost forgets how many there were."""
OVERSIZE_CHARACTERS = 90_000
"""More than a message of the broker under test may hold: `mesh.MAX_PAYLOAD_BYTES`."""
DEADLINE_S = (0.2, 2.5)
"""From the first try. Answers take as long, so that some come in time."""


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
    COME_BACK = "come back"
    """Leaves, attaches a little later, and once more when all is over."""
    AGAIN = "again"
    """Sends the same twice, the second time to another gateway in the middle, and reads both answers."""
    NATS = "nats"
    """Publishes JSON and listens."""
    NATS_CANCEL = "nats cancel"
    """Cancels on NATS in the middle, and listens on."""

    @property
    def by_nats(self) -> bool:
        return self in (Way.NATS, Way.NATS_CANCEL)

    @property
    def plain(self) -> bool:
        """Whether the client only wants its answer."""
        return self in (Way.STREAM, Way.SUBMIT, Way.NATS, Way.COME_BACK)


class Poison(enum.Enum):
    """A prompt that the fake engine takes for a command. The value is its character."""

    FAILS = "\x01"
    """Each attempt fails after some steps."""
    FAILS_AT_ONCE = "\x00"
    CRASHES = "\x02"
    """The worker process ends, and whatever else it runs is lost with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, and how its client behaves."""

    client: str
    number: int
    way: Way
    request_id: str
    prompt: str
    max_tokens: int
    tenant: str = TENANTS[0]
    stop: tuple[str, ...] = ()
    priority: str = "normal"
    ignore_end: bool = False
    sampled: bool = False
    """Each attempt is a new draw, so nobody knows the answer beforehand; stream and outcome are one all the same."""
    poison: Poison | None = None
    gateway: int = 0
    """Which gateway is tried first."""
    act_at: int = 0
    """The token at which it cancels, hangs up or sends it again, or at which its rival comes."""
    keep: bool = False
    """It is to go on when its call ends."""
    rival: bool = False
    """Another client asks for something else under the same id."""
    pause_s: float = 0.0
    """Of a slow reader, at each event; of one that comes back, before it does."""
    timeout_s: float | None = None
    think_s: float = 0.0
    """Before it asks."""
    header_only: bool = False
    """On NATS: the id stands in the header alone."""

    @property
    def name(self) -> str:
        return f"{self.client}/{self.number}"

    @property
    def oversize(self) -> bool:
        return len(self.prompt) >= OVERSIZE_CHARACTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What prompts are made of. `fixed`: these alone, for a model whose answers are known for few."""

    fixed: tuple[str, ...] = ()
    lengths: tuple[int, ...] = (16, 32, 48)
    """Few, so that requests share batches."""
    tokens: tuple[int, int] = (6, 120)

    def draw(self, rng: random.Random, *, commands: str, oversize: bool) -> str:
        if self.fixed:
            return rng.choice(self.fixed)
        length = (OVERSIZE_CHARACTERS if oversize else rng.choice(self.lengths)) - len(commands)
        return commands + "".join(rng.choices(string.ascii_lowercase + " ", k=length))


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """Of what is rare in requests."""

    poison: float = 0.01
    crash: float = 0.04
    """Of the poisoned ones."""
    sampled: float = 0.1
    oversize: float = 0.005
    rival: float = 0.05
    late: float = 0.05
    """Of a deadline in a request that is submitted or published."""


def requests_of(
    seed: int, client: str, way: Way, prompts: Prompts, odds: Odds, think_s: float
) -> Iterator[Asked]:
    """The requests of one client, without end."""
    rng = random.Random(f"{seed} {client}")
    number = 0
    while True:
        number += 1
        yield _draw(rng, client, number, way, prompts, odds, think_s)


def _draw(
    rng: random.Random, client: str, number: int, way: Way, prompts: Prompts, odds: Odds, think_s: float
) -> Asked:
    low, high = prompts.tokens
    most = int(low * (high / low) ** rng.random())
    poison = _draw_poison(rng, odds) if rng.random() < odds.poison and way.plain else None
    ends = rng.random() < 0.3 and poison is None
    stop = (rng.choice(("et", "nn ", "a i", "zz")),) if rng.random() < 0.15 else ()
    oversize = rng.random() < odds.oversize and poison is None and not way.by_nats
    late = rng.random() < odds.late and way in (Way.SUBMIT, Way.NATS) and poison is None
    sampled = rng.random() < odds.sampled
    return Asked(
        client=client,
        number=number,
        way=way,
        request_id=new_id(rng, number),
        prompt=prompts.draw(
            rng, commands=(poison.value if poison else "") + "\x04" * ends, oversize=oversize
        ),
        max_tokens=most if poison is None else POISONED_TOKENS,
        tenant=rng.choices(TENANTS, (4, 2, 1))[0],
        stop=() if poison else stop,
        priority=rng.choices(("realtime", "high", "normal", "batch"), (1, 2, 6, 1))[0],
        ignore_end=rng.random() < 0.3,
        sampled=sampled,
        poison=poison,
        gateway=rng.randrange(2),
        act_at=rng.randint(0, most),
        rival=rng.random() < odds.rival and way in (Way.STREAM, Way.SUBMIT) and poison is None,
        keep=rng.random() < 0.3 and way is not Way.CANCEL,
        pause_s=_draw_pause(rng, way),
        timeout_s=rng.uniform(*DEADLINE_S) if way is Way.DEADLINE or late else None,
        think_s=rng.expovariate(1 / think_s) if think_s else 0.0,
        header_only=rng.random() < 0.5,
    )


def _draw_pause(rng: random.Random, way: Way) -> float:
    match way:
        case Way.SLOW:
            return rng.uniform(0.05, 0.4)
        case Way.COME_BACK:
            return rng.uniform(0.0, 4.0)
        case _:
            return 0.0


def _draw_poison(rng: random.Random, odds: Odds) -> Poison:
    if rng.random() < odds.crash:
        return Poison.CRASHES
    return rng.choice((Poison.FAILS, Poison.FAILS_AT_ONCE))


def new_id(rng: random.Random, number: int) -> str:
    raw = bytearray((FIRST_MS + number).to_bytes(6, "big") + rng.randbytes(10))
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return str(uuid.UUID(bytes=bytes(raw)))
