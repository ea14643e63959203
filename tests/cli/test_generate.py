"""`headrace generate` and its neighbours."""

from __future__ import annotations

import io
import json
import signal
import socket
from collections.abc import Iterator

import pytest
from rich.console import Console
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.cli.stream_view import StreamView
from headrace.contract.values import (
    Accepted,
    FinishReason,
    Outcome,
    OutcomeKind,
    QueuePosition,
    TokenChunk,
    Usage,
)
from tests.cli.running import Running, run

runner = CliRunner()


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address that nobody answers at: bound, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "command", [["generate", "hi"], ["submit", "hi"], ["models"], ["cancel", "x"], ["result", "x"]]
)
def test_without_a_gateway_it_says_how_to_start_one(command: list[str], closed_port: str) -> None:
    """One line with the address and the remedy; exit code 1."""
    result = runner.invoke(app, [*command, "--address", closed_port])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert closed_port in result.stderr
    assert "headrace up" in result.stderr


def test_the_gateways_address_comes_from_the_settings(
    closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --address it is the one of HEADRACE_GATEWAY_HOST and _PORT."""
    monkeypatch.setenv("HEADRACE_GATEWAY_PORT", closed_port.rpartition(":")[2])
    assert closed_port in runner.invoke(app, ["models"]).stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--address", "nonsense", "hi"], "HOST:PORT"),
        (["--raw", "--system", "be brief", "hi"], "--system"),
        (["--max-tokens", "0", "hi"], "--max-tokens"),
        (["--priority", "urgent", "hi"], "realtime"),
        (["--timeout", "0", "hi"], "--timeout"),
        ([], "PROMPT"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(arguments: list[str], word: str) -> None:
    """Exit code 2, and the flag or its values are named."""
    result = runner.invoke(app, ["generate", *arguments])
    assert result.exit_code == 2
    assert word in result.stderr


def test_the_view_streams_the_text_and_ends_with_figures() -> None:
    """The answer alone on stdout; tokens, times, the end and the id on stderr; the prompt line ends with a newline."""
    out, notes = io.StringIO(), io.StringIO()
    with StreamView(out, Console(file=notes, width=200)) as view:
        view.show(Accepted(request_id="r-1", position=QueuePosition(ahead=0, estimated_wait_s=0.0)))
        view.show(TokenChunk(first_index=0, token_ids=(1, 2), text="Hello"))
        view.show(TokenChunk(first_index=2, token_ids=(3,), text=" \x1b[31mworld"))
        view.show(outcome())
    assert out.getvalue() == "Hello \x1b[31mworld\n"
    assert notes.getvalue().startswith("7 + 3 tokens · first token ")
    assert notes.getvalue().endswith("waited 250 ms · resumed 1× · finished: stop · r-1\n")


def test_a_model_cannot_steer_the_terminal() -> None:
    """On a terminal escape sequences and carriage returns are made visible; newlines stay."""
    out = Terminal()
    with StreamView(out, Console(file=io.StringIO())) as view:
        view.show(TokenChunk(first_index=0, token_ids=(1,), text="a\x1b[2J\r\nb\tc"))
    assert out.getvalue() == "a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}\nb\tc\n"


def test_quiet_prints_the_answer_alone() -> None:
    """No figures, no place in the queue, on a terminal neither."""
    out, notes = io.StringIO(), Terminal()
    with StreamView(out, Console(file=notes, force_terminal=True), quiet=True) as view:
        view.show(QueuePosition(ahead=3, estimated_wait_s=1.0))
        view.show(TokenChunk(first_index=0, token_ids=(1,), text="Hello\n"))
        view.show(outcome())
    assert (out.getvalue(), notes.getvalue()) == ("Hello\n", "")


def test_the_place_in_the_queue_is_shown_on_a_terminal() -> None:
    """How many go first and the estimated wait, until the first token takes their place."""
    notes = Terminal()
    with StreamView(io.StringIO(), Console(file=notes, force_terminal=True, width=80)) as view:
        view.show(QueuePosition(ahead=3, estimated_wait_s=1.25))
        view.show(TokenChunk(first_index=0, token_ids=(1,), text="Hello"))
    assert "3 ahead in the queue, about 1.2 s" in notes.getvalue()


def outcome() -> Outcome:
    usage = Usage(prompt_tokens=7, output_tokens=3, queue_s=0.25, attempts=2, resumptions=1)
    return Outcome(
        request_id="r-1",
        kind=OutcomeKind.COMPLETED,
        model="fake",
        usage=usage,
        finish_reason=FinishReason.STOP,
    )


@pytest.mark.integration
class TestWithAMesh:
    """Against real processes with the fake model, whose greedy output is a function of its input."""

    def test_text_and_json_tell_the_same(self, mesh: Running) -> None:
        """The events are accepted, tokens without a gap, finished; their text is what the terminal gets."""
        ask = ("generate", "--address", mesh.gateway, "--max-tokens", "12", "--system", "be brief", "hello")
        text, lines = run(*ask), run(*ask, "--json")
        events = [json.loads(line) for line in lines.stdout.splitlines()]
        assert (events[0]["event"], events[-1]["event"]) == ("accepted", "finished")
        assert events[-1]["usage"]["output_tokens"] == 12
        chunks = [event for event in events if event["event"] == "tokens"]
        assert [chunk["first_index"] for chunk in chunks] == counted([len(c["token_ids"]) for c in chunks])
        assert text.stdout == "".join(chunk["text"] for chunk in chunks) + "\n"
        assert "12 tokens" in text.stderr
        assert "finished: length" in text.stderr

    def test_a_prompt_from_stdin(self, mesh: Running) -> None:
        """`-` reads it, and `--raw` gives it to the model as it is: its tokens are its bytes."""
        done = run(
            "generate", "--address", mesh.gateway, "--raw", "--json", "--max-tokens", "2", "-", stdin="four"
        )
        assert json.loads(done.stdout.splitlines()[-1])["usage"]["prompt_tokens"] == 4

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (["--model", "gpt9", "hi"], "available: fake"),
            (["--temperature", "9", "hi"], "sampling.temperature"),
            (["--max-tokens", "9999", "hi"], "4096"),
            ([""], "empty"),
        ],
    )
    def test_what_the_mesh_refuses(self, mesh: Running, arguments: list[str], word: str) -> None:
        """Its reason in one line, exit code 2; as JSON an event with the stable code."""
        done = runner.invoke(app, ["generate", "--address", mesh.gateway, "--json", *arguments])
        assert done.exit_code == 2
        assert word in done.stderr
        event = json.loads(done.stdout.splitlines()[-1])
        assert (event["event"], event["code"] in ("INVALID_REQUEST", "UNKNOWN_MODEL")) == ("error", True)

    def test_ctrl_c_cancels_the_request(self, mesh: Running) -> None:
        """Exit code 130, and the request's outcome is cancelled."""
        with Running(
            "generate", "--address", mesh.gateway, "--json", "--max-tokens", "3000", "hello"
        ) as stream:
            request_id = stream.wait_for('"request_id": "(.*?)"')[1]
            stream.wait_for('"first_index": [1-9]')
            assert stream.end(signal.SIGINT) == 130
            assert "Traceback" not in stream.output
        done = run("result", "--address", mesh.gateway, "--wait", "10", "--json", request_id)
        assert (done.returncode, json.loads(done.stdout)["outcome"]) == (1, "cancelled")

    def test_submit_result_cancel_and_models(self, mesh: Running) -> None:
        """A request that nobody waits for: its id, its text, and that it is too late to cancel it."""
        at = ("--address", mesh.gateway)
        asked = run("submit", *at, "--max-tokens", "3", "hello").stdout.strip()
        done = run("result", *at, "--wait", "10", asked)
        assert (done.returncode, len(done.stdout.rstrip("\n"))) == (0, 3)
        late = run("cancel", *at, asked)
        assert (late.returncode, late.stderr) == (1, "headrace: too late: it is completed\n")
        (model,) = json.loads(run("models", *at, "--json").stdout)
        assert (model["name"], model["lanes"]) == ("fake", 1)
        assert "fake" in run("models", *at).stdout


def counted(lengths: list[int]) -> list[int]:
    """Where each chunk begins, if none is missing."""
    return [sum(lengths[:place]) for place in range(len(lengths))]
