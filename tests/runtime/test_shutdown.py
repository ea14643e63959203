"""How a process ends: by signals, by itself, and by an error that was to be expected."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headrace.contract.errors import HeadraceError, NotFound, StartError, Unavailable
from headrace.runtime.error_groups import expected_errors
from headrace.runtime.shutdown import Shutdown, run_process


async def test_request_ends_the_wait() -> None:
    """A request is an event that stays, and its first reason is kept."""
    async with Shutdown(signals=()) as shutdown:
        waiting = asyncio.create_task(shutdown.requested())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert repr(shutdown) == "<Shutdown not requested>"
        shutdown.request("the test")
        shutdown.request("again")
        async with asyncio.timeout(5):
            await waiting
            await shutdown.requested()
        assert shutdown.draining
        assert repr(shutdown) == "<Shutdown draining: the test>"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_first_signal_drains_second_insists(number: signal.Signals) -> None:
    """The first real signal asks for the drain; the second calls what ends the process at once."""
    insisted: asyncio.Queue[int] = asyncio.Queue()
    async with Shutdown(second=insisted.put_nowait) as shutdown, asyncio.timeout(5):
        os.kill(os.getpid(), number)
        await shutdown.requested()
        assert shutdown.reason == number.name
        assert insisted.empty()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await insisted.get() == signal.SIGTERM


async def test_handlers_are_taken_down() -> None:
    """Outside of the block signals do what they did before."""
    before = signal.getsignal(signal.SIGTERM)
    async with Shutdown():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


PROCESS = """
import asyncio, structlog, sys
from headrace.runtime.shutdown import Shutdown, run_process

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    async with Shutdown() as shutdown:
        print(type(asyncio.get_running_loop()).__module__, flush=True)
        await shutdown.requested()
        print("draining", flush=True)
        if "--slow" in sys.argv:
            await asyncio.Event().wait()
    return 7

raise SystemExit(run_process(main()))
"""


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The process above; killed at the end if it has not ended by then."""
    command = [sys.executable, "-c", PROCESS, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_drains_and_gives_its_code(number: signal.Signals) -> None:
    """A real process on uvloop drains at a signal, and its exit code is what its main returned."""
    with started() as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "uvloop\n"
        process.send_signal(number)
        assert process.stdout.readline() == "draining\n"
        assert process.wait(5) == 7


def test_second_signal_ends_a_process_that_hangs() -> None:
    """A drain that hangs is ended by the second signal, with the exit code that shells expect."""
    with started("--slow") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "draining\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 128 + signal.SIGINT


async def _fail(error: BaseException) -> None:
    raise error


async def _fail_in_groups(*failures: BaseException) -> None:
    async with asyncio.TaskGroup() as outer:
        outer.create_task(_nested(failures))
        await asyncio.Event().wait()


async def _nested(failures: tuple[BaseException, ...]) -> None:
    async with asyncio.TaskGroup() as inner:
        for failure in failures:
            inner.create_task(_fail(failure))


def test_expected_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An error of our tree is one line on stderr and the exit code 1."""
    assert run_process(_fail(StartError("NATS is too old", "Use 2.12"))) == 1
    assert capsys.readouterr().err == "headrace: NATS is too old. Use 2.12\n"


def test_expected_errors_in_groups_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors that task groups wrapped are told as themselves, each once."""
    assert run_process(_fail_in_groups(StartError("a"), StartError("a"), Unavailable("b", "c"))) == 1
    assert sorted(capsys.readouterr().err.splitlines()) == ["headrace: a", "headrace: b: c"]


def test_unexpected_error_passes() -> None:
    """A bug keeps its traceback, also when an expected error stands beside it."""
    with pytest.raises(ValueError, match="bug"):
        run_process(_fail(ValueError("bug")))
    with pytest.raises(ExceptionGroup):
        run_process(_fail_in_groups(StartError("a"), ValueError("bug")))


def test_success_and_interruption() -> None:
    """No result is exit code 0; Ctrl-C outside of a Shutdown gives 130 without a traceback."""

    async def nothing() -> None:
        return None

    assert run_process(nothing()) == 0
    assert run_process(_fail(KeyboardInterrupt())) == 130


def test_expected_errors() -> None:
    """Cancellations do not count; anything else that is not of our tree makes the whole unexpected."""
    one, two = NotFound("x", "y"), HeadraceError("z")
    assert expected_errors(one) == (one,)
    assert expected_errors(
        BaseExceptionGroup("g", [one, asyncio.CancelledError(), ExceptionGroup("h", [two])])
    ) == (
        one,
        two,
    )
    assert expected_errors(ExceptionGroup("g", [one, ValueError()])) == ()
    assert expected_errors(asyncio.CancelledError()) == ()
