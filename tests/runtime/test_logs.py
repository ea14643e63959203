"""Log lines: their form, what they carry, and what they never carry."""

from __future__ import annotations

import io
import json
import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from headrace.runtime.log_level import change_level_on_signals
from headrace.runtime.logs import configure_logs
from headrace.runtime.settings import LogSettings


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leaves logging as it was."""
    root, ours = logging.getLogger(), logging.getLogger("headrace")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(False)
    structlog.reset_defaults()


def configured(**settings: str) -> io.StringIO:
    stream = io.StringIO()
    configure_logs(LogSettings.model_validate(settings), process="router", instance="r1", stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_line() -> None:
    """Off a terminal a line is one JSON object with time, level, process, instance, logger and fields."""
    stream = configured()
    structlog.get_logger("headrace.x").info("joined", worker="w1")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "joined",
        "worker": "w1",
        "level": "info",
        "logger": "headrace.x",
        "process": "router",
        "instance": "r1",
    }


def test_trace_and_span() -> None:
    """A line that is written inside a span carries the ids of its trace and span; others carry none."""
    stream = configured()
    log = structlog.get_logger("headrace.x")
    with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
        log.info("inside")
    log.info("outside")
    inside, outside = lines(stream)
    context = span.get_span_context()
    assert inside["trace_id"] == f"{context.trace_id:032x}"
    assert inside["span_id"] == f"{context.span_id:016x}"
    assert "trace_id" not in outside


def test_libraries_from_warning_up() -> None:
    """Libraries' lines come in the same form, from WARNING up; ours from the set level up."""
    stream = configured(level="debug")
    logging.getLogger("grpc").info("chatter")
    logging.getLogger("grpc").warning("trouble %d", 1)
    structlog.get_logger("headrace.x").debug("detail")
    assert [(line["event"], line["process"]) for line in lines(stream)] == [
        ("trouble 1", "router"),
        ("detail", "router"),
    ]


def test_level() -> None:
    """Below the set level nothing is written."""
    stream = configured(level="error")
    structlog.get_logger("headrace.x").warning("no")
    logging.getLogger("grpc").warning("no")
    structlog.get_logger("headrace.x").error("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_content(style: str) -> None:
    """What stands under a name of content is withheld, and tracebacks show no local variables."""
    stream = configured(format=style)
    log = structlog.get_logger("headrace.x")
    log.info("done", prompt="secret words", text="secret words", tokens=5)
    try:
        local = "secret words"
        raise ValueError(f"bad {len(local)}")
    except ValueError:
        log.exception("failed")
    written = stream.getvalue()
    assert "secret words" not in written
    assert "bad 12" in written, "the exception itself is told"
    assert "(withheld)" in written
    assert "5" in written, "a count may stay"


def test_console() -> None:
    """The console form is readable, and without colours where there is no terminal."""
    stream = configured(format="console")
    structlog.get_logger("headrace.x").info("joined", worker="w1")
    assert "joined" in stream.getvalue()
    assert "worker=w1" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_again() -> None:
    """Called twice, the last call wins and no line comes twice."""
    first = configured()
    second = configured()
    structlog.get_logger("headrace.x").info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_closed_stderr() -> None:
    """A line that cannot be written does not fail the one who writes it."""
    stream = configured()
    stream.close()
    logging.raiseExceptions, before = False, logging.raiseExceptions
    try:
        structlog.get_logger("headrace.x").info("nobody reads this")
    finally:
        logging.raiseExceptions = before


def test_the_level_changes_while_a_process_runs() -> None:
    """USR1 has it tell all, USR2 as much as it was set to; both are said in the log."""
    stream = configured(level="warning")
    log = structlog.get_logger("headrace.x")
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        change_level_on_signals("warning")
        log.debug("too little")
        signal.raise_signal(signal.SIGUSR1)
        log.debug("told")
        signal.raise_signal(signal.SIGUSR2)
        log.info("too little again")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert [(line["event"], line.get("least")) for line in lines(stream)] == [
        ("log.level", "debug"),
        ("told", None),
        ("log.level", "warning"),
    ]
