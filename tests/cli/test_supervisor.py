"""Children that are kept alive: small programs stand in for the processes of a mesh."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import psutil
import pytest

from headrace.cli.child import Child, ChildFailed, ChildSpec
from headrace.cli.supervisor import Supervisor
from headrace.runtime.child_process import tied_to_parent
from headrace.runtime.error_groups import expected_errors

PATIENCE_S = 20.0
OBEYS = "import time; print('here', flush=True); time.sleep(60)"
IGNORES = "import signal, time; signal.signal(15, lambda *_: print('asked', flush=True)); print('here', flush=True)\n"
IGNORES += "while True: time.sleep(60)"


class Heard:
    """The lines of all children, and a wait for them."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def spec(self, name: str, program: str, grace_s: float = 10.0) -> ChildSpec:
        return ChildSpec(
            name=name,
            argv=tuple(tied_to_parent([sys.executable, "-c", program])),
            environ=os.environ,
            stop_grace_s=grace_s,
            hears=lambda line: self._lines.put_nowait((name, line)),
        )

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(PATIENCE_S):
            return await self._lines.get()


@pytest.fixture
def heard() -> Heard:
    return Heard()


def pid_of(child: Child) -> int:
    assert child.pid is not None
    return child.pid


async def test_a_killed_child_comes_back_at_once(heard: Heard) -> None:
    """kill -9 of a child that has been ready: another process runs under its name, and it is gone at the end."""
    async with Supervisor().running(["one"]) as children:
        child = children.start(heard.spec("one", OBEYS))
        await heard.next()
        children.settle()
        first = pid_of(child)
        os.kill(first, signal.SIGKILL)
        began = asyncio.get_running_loop().time()
        assert await heard.next() == ("one", "here")
        assert asyncio.get_running_loop().time() - began < 1.0
        second = pid_of(child)
        assert (second != first, child.starts) == (True, 2)
    assert not psutil.pid_exists(second)


async def test_a_child_that_cannot_start_ends_the_block_with_its_reason(heard: Heard) -> None:
    """A start error of one child is told in its own words, once all the others are gone."""
    fails = "import sys; print('headrace: no such device', file=sys.stderr); sys.exit(1)"
    other: list[int] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor().running(["two", "one"]) as children:
            child = children.start(heard.spec("one", OBEYS))
            await heard.next()
            other.append(pid_of(child))
            children.start(heard.spec("two", fails))
            await asyncio.Event().wait()
    (error,) = expected_errors(caught.value)
    assert isinstance(error, ChildFailed)
    assert str(error) == "two cannot start: no such device"
    assert not psutil.pid_exists(other[0])


async def test_a_settled_child_that_fails_is_started_again(heard: Heard) -> None:
    """After it has been ready, an exit code is a reason to start it again, not to give up."""
    fails_once_told = "import sys; print('here', flush=True); sys.exit(3)"
    async with Supervisor().running(["one"]) as children:
        child = children.start(heard.spec("one", fails_once_told))
        children.settle()
        for _ in range(3):
            assert await heard.next() == ("one", "here")
        assert child.starts >= 3


async def test_children_stop_in_order(heard: Heard) -> None:
    """Each has ended before the next one is told to."""
    says = (
        "import signal, sys, time; signal.signal(15, lambda *_: (print('asked', flush=True), sys.exit(0)))\n"
    )
    says += "print('here', flush=True)\nwhile True: time.sleep(60)"
    async with Supervisor().running(["b", "c", "a"]) as children:
        for name in "abc":
            children.start(heard.spec(name, says))
            await heard.next()
    assert [await heard.next() for _ in range(3)] == [("b", "asked"), ("c", "asked"), ("a", "asked")]


async def test_a_child_that_does_not_end_is_killed(heard: Heard) -> None:
    """After its grace a child that ignores SIGTERM is killed."""
    async with Supervisor().running(["one"]) as children:
        child = children.start(heard.spec("one", IGNORES, grace_s=0.3))
        await heard.next()
        pid = pid_of(child)
    assert await heard.next() == ("one", "asked")
    assert not psutil.pid_exists(pid)


async def test_an_interruption_leaves_no_child(heard: Heard) -> None:
    """An exception in the block ends the children, too."""
    pids: list[int] = []
    with pytest.raises(ExceptionGroup):
        async with Supervisor().running(["one"]) as children:
            child = children.start(heard.spec("one", OBEYS))
            await heard.next()
            pids.append(pid_of(child))
            raise ValueError
    assert not psutil.pid_exists(pids[0])


async def test_a_program_that_is_not_there_is_a_start_error() -> None:
    """The system's reason is in the message."""
    spec = ChildSpec(name="one", argv=("/nowhere/at/all",), environ={}, stop_grace_s=1.0, hears=_nothing)
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor().running(["one"]) as children:
            children.start(spec)
            await asyncio.Event().wait()
    assert [str(error) for error in expected_errors(caught.value)] == [
        "one cannot start: No such file or directory"
    ]


_nothing: Callable[[str], None] = lambda line: None  # noqa: E731
