"""The lines of several processes in one stream."""

from __future__ import annotations

import asyncio
import io
import json

from headrace.cli.child_output import LastWords, read_lines
from headrace.cli.log_view import LogView


def shown(*lines: str, raw: bool = False) -> str:
    out = io.StringIO()
    view = LogView(["router", "up"], raw=raw, stream=out)
    for line in lines:
        view.show("up", line)
    return out.getvalue()


def test_each_line_stands_behind_its_process() -> None:
    """Names are padded to one width; text that is no JSON stays as it is, brackets included."""
    assert shown("[red]hello", "{half") == "up     │ [red]hello\nup     │ {half\n"


def test_a_json_line_is_made_readable() -> None:
    """Level, event and fields, without what the name before the line says; nothing for what is null."""
    line = json.dumps(
        {
            "event": "router.away",
            "level": "warning",
            "process": "worker",
            "after_s": 1.5,
            "code": None,
            "why": "so",
        }
    )
    assert shown(line) == "up     │ warning router.away  after_s=1.5  why=so\n"


def test_a_traceback_keeps_its_lines() -> None:
    """An exception follows its line, each line of it behind the process's name."""
    line = json.dumps({"event": "failed", "level": "error", "exception": "Traceback:\n  boom"})
    assert shown(line).splitlines()[1:] == ["up     │ Traceback:", "up     │   boom"]


def test_raw_lines_go_through_untouched() -> None:
    """For a log collector, each line stays one JSON object."""
    assert json.loads(shown('{"event": "x"}', raw=True)) == {"event": "x"}


def test_a_closed_stream_ends_nothing() -> None:
    """Where nobody reads the log any more, lines are dropped."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    LogView(["up"], stream=Closed()).show("up", "hello")


def test_own_log_lines_are_shown_under_a_name() -> None:
    """What is written to the stream in pieces comes out as whole lines."""
    out = io.StringIO()
    stream = LogView(["up"], stream=out).stream("up")
    stream.write("one\ntw")
    stream.write("o\n")
    assert out.getvalue() == "up │ one\nup │ two\n"


async def test_lines_are_cut_where_they_end_and_where_they_are_endless() -> None:
    """Lines come whole however the bytes arrive; one without an end comes in pieces; bad UTF-8 does no harm."""
    stream = asyncio.StreamReader()
    for piece in (b"on", b"e\ntwo\n\xff", b"\n", b"x" * 40_000, b"\nlast"):
        stream.feed_data(piece)
    stream.feed_eof()
    lines = [line async for line in read_lines(stream)]
    assert lines[:3] == ["one", "two", "\N{REPLACEMENT CHARACTER}"]
    assert "".join(lines[3:-1]) == "x" * 40_000
    assert lines[-1] == "last"


def test_the_reason_of_a_failed_start_is_the_childs_own_word() -> None:
    """`headrace: …` lines win over what else was written; else the last line is it."""
    last = LastWords()
    assert last.reason == "it said nothing"
    last.add("Traceback")
    last.add("ValueError: no")
    assert last.reason == "ValueError: no"
    last.add("headrace: the port is taken")
    last.add("bye")
    assert last.reason == "the port is taken"
