"""One TCP connection between two processes, through this process, which can stop to pass on what it is given."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import cast


class Cut(enum.Enum):
    """How two processes are cut off from one another, while both live."""

    BLACKHOLE = "blackhole"
    """Nothing passes and nobody is told; what was sent arrives when it is over, as after a network's fault."""
    ONE_WAY = "one way"
    """Nothing passes from one to the other; the other way is open."""
    REFUSE = "refuse"
    """Connections are reset, and new ones at once again."""
    HALF_OPEN = "half open"
    """One end is told that its connection is reset, the other hears nothing of it until it is over, as after a router
    between them forgot the connection.
    """


class End(asyncio.Protocol):
    """One of the two ends. `closed` is called when its peer is gone."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self._held = False
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._wire.made(self)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._wire.lost(self)

    # Bounded by the transports' high-water mark: an end that does not read stops the other from being read.

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.fill(full=True)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.fill(full=False)

    def fill(self, *, full: bool) -> None:
        self._full = full
        self._read_or_not()

    def hold(self, *, held: bool) -> None:
        """Whether what it sends is kept from the other end."""
        self._held = held
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._held or self._full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def reset(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """After all that was written to it."""
        if self.transport is not None:
            self.transport.close()


class Wire:
    """From `near`, which dialled, to `far`, the server's end.

    Writers: `obey` alone writes `_cut`. Once `_dead`, whatever is left of it is reset when no cut holds it any more.
    """

    def __init__(
        self, port: int, *, begun: Callable[[Wire, asyncio.Transport], None], gone: Callable[[Wire], None]
    ) -> None:
        """`port` is the server's. `begun(wire, near)` is called once and sets `owner`, or resets the wire; `gone(wire)`
        when both ends are.
        """
        self.owner = ""
        self.near = End(self)
        self.far: End | None = None
        self._port = port
        self._begun = begun
        self._gone = gone
        self._cut: Cut | None = None
        self._of_near = True
        self._dead = False
        self._dialling: asyncio.Task[None] | None = None

    def made(self, end: End) -> None:
        if end is not self.near or end.transport is None:
            return
        end.hold(held=True)  # until there is somebody to pass it to
        self._begun(self, end.transport)

    def obey(self, cut: Cut | None, *, of_near: bool = True) -> None:
        """From now on it is cut, or not. `of_near`: it is the near end that is not heard, or not told."""
        self._cut, self._of_near = cut, of_near
        deaf = self.near if of_near else self.far
        match cut:
            case None if self._dead:
                self.reset()
            case None if self.far is None:
                self._dial()
            case None:
                self._hold(near=False, far=False)
            case Cut.REFUSE:
                self.reset()
            case Cut.BLACKHOLE:
                self._hold(near=True, far=True)
            case Cut.ONE_WAY:
                self._hold(near=deaf is self.near, far=deaf is self.far)
            case Cut.HALF_OPEN:
                self._hold(near=True, far=True)
                self._dead = True
                told = self.far if deaf is self.near else self.near
                if told is not None:
                    told.reset()

    def _hold(self, *, near: bool, far: bool) -> None:
        self.near.hold(held=near or self.far is None)
        if self.far is not None:
            self.far.hold(held=far)

    def reset(self) -> None:
        self._dead = True
        self.near.reset()
        if self.far is not None:
            self.far.reset()

    def _dial(self) -> None:
        if self._dialling is None:
            self._dialling = asyncio.create_task(self._connect(), name=f"dial for {self.owner}")

    async def _connect(self) -> None:
        far = End(self)
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, "127.0.0.1", self._port)
        except OSError:
            self._dead = True
            if self._cut is None:
                self.near.reset()
            return
        self.near.other, far.other, self.far = far, self.near, far
        if self.near.transport is None or self.near.transport.is_closing():
            far.reset()
        elif self._cut is None:
            self._hold(near=False, far=False)
        else:
            self.obey(self._cut, of_near=self._of_near)

    def lost(self, end: End) -> None:
        """One end is gone: the other is told, unless a cut keeps it from hearing of it."""
        self._dead = True
        other = self.far if end is self.near else self.near
        if self._cut is None and other is not None:
            other.close()
        if all(e is None or e.transport is None or e.transport.is_closing() for e in (self.near, self.far)):
            self._gone(self)

    def close(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
        self.reset()
