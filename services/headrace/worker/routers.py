"""The routers that a worker may join, and which of them it tries next. No I/O."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from headrace.contract.work import Peer


class Routers:
    """The configured addresses, for ever, and those that a router told of, for as long as the last one told does.

    They are tried in rounds, each once: the configured ones in their order, then the others in any; last those of the
    router that was left. Writers: `_peers` by `told`, `_tried` by `next`, `anew` and `left`, `_left` by `left`.
    """

    def __init__(self, configured: Sequence[str], rng: random.Random) -> None:
        self._configured = tuple(configured)
        self._rng = rng
        self._peers: tuple[Peer, ...] = ()
        self._tried: set[str] = set()
        self._left: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Routers {', '.join(self._known())}; tried {sorted(self._tried)}>"

    @property
    def many(self) -> bool:
        """Whether there is another to go to."""
        return len(set(self._known())) > 1

    def told(self, peers: Sequence[Peer]) -> None:
        """The routers that live, as one of them says. In any order: workers that lose it do not all go to one."""
        self._peers = tuple(self._rng.sample(peers, len(peers)))

    def next(self) -> str | None:
        """The address to try now; None once each was tried: time to wait, and to begin `anew`."""
        untried = [address for address in self._known() if address not in self._tried]
        if not untried:
            return None
        address = min(untried, key=lambda address: address in self._left)  # the first that is not
        self._tried.add(address)
        return address

    def anew(self) -> None:
        """Begins another round."""
        self._tried.clear()

    def left(self, address: str, router_id: str) -> None:
        """Begins another round after the router that was joined at `address`: lost, or draining."""
        self._left = frozenset(
            {address, *(peer.address for peer in self._peers if peer.router_id == router_id)}
        )
        self.anew()

    def _known(self) -> Iterator[str]:
        yield from self._configured
        for peer in self._peers:
            if peer.address not in self._configured:
                yield peer.address
