"""`headrace dead`: what a person at a terminal gets, and what a program reads."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from headrace.cli.dead_options import duration_s
from headrace.cli.main import app
from headrace.contract.ids import new_request_id
from headrace.contract.values import Failure, TraceContext
from headrace.runtime.nats_server import EmbeddedNats
from tests.cli.running import run
from tests.dead.conftest import broker, mesh
from tests.dead.lying import a_dead, every, fail_for_good, give_up, lay
from tests.dead.test_replay import answer
from tests.ports import free_port
from tests.router.conftest import Mesh, a_request
from tests.router.peers import worker

__all__ = ["broker", "mesh"]

Done = subprocess.CompletedProcess[str]
SECRET = "the secret of the house"
MALFORMED = Failure(code="MALFORMED_MESSAGE", message="body: there is no field promt; did you mean prompt?")

runner = CliRunner()


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that runs in this process sets its logs up, to a stderr that is closed when it is over."""
    root, ours = logging.getLogger(), logging.getLogger("headrace")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(False)
    structlog.reset_defaults()


async def dead_process(nats: EmbeddedNats, *arguments: str) -> Done:
    """`headrace dead …` as a process of its own, while this one's router goes on."""
    return await asyncio.to_thread(run, "dead", arguments[0], "--nats-url", nats.url, *arguments[1:])


async def dead(nats: EmbeddedNats, *arguments: str, stdin: str = "") -> Done:
    """`headrace dead …` in this process: what it says and how it ends are the same."""
    command = ["dead", arguments[0], "--nats-url", nats.url, *arguments[1:]]
    result = await asyncio.to_thread(runner.invoke, app, command, input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(command, result.exit_code, result.stdout, result.stderr)


def lines(done: Done) -> list[dict[str, Any]]:
    """What `--json` printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.integration
async def test_a_failed_request_from_the_list_to_its_answer(mesh: Mesh, fresh_nats: EmbeddedNats) -> None:
    """Listed, shown without content, replayed, answered under the id that is printed, gone from the list."""
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model, heartbeat_s=0.3) as hands:
        request = a_request(prompt=SECRET)
        await give_up(mesh, hands, request)

        listed = await dead_process(fresh_nats, "list")
        assert listed.returncode == 0, listed.stderr
        for word in (request.id, "TOO_MANY_ATTEMPTS", "out of memory", "hr.v1.req.fake.normal.default", "5×"):
            assert word in listed.stdout
        shown = await dead_process(fresh_nats, "show", "1")
        assert f"Nats-Msg-Id: {request.id}" in shown.stdout
        assert SECRET not in listed.stdout + shown.stdout
        assert SECRET in (await dead_process(fresh_nats, "show", "1", "--content")).stdout

        replayed = await dead_process(fresh_nats, "replay", "1")
        assert replayed.returncode == 0, replayed.stderr
        number, old, arrow, new = replayed.stdout.split()
        assert (number, old, arrow) == ("1", request.id, "→")
        assert "replayed 1 letter" in replayed.stderr
        await answer(hands, new, "ok")
        assert (await mesh.result(a_request(id=new))).text == "ok"

        assert "no dead letters" in (await dead_process(fresh_nats, "list")).stderr
        again = await dead_process(fresh_nats, "replay", "1")
        assert (again.returncode, "no dead letter '1'" in again.stderr) == (1, True)


@pytest.mark.integration
async def test_a_bulk_replay_goes_once_through_what_was_there(mesh: Mesh, fresh_nats: EmbeddedNats) -> None:
    """What fails again meanwhile is a new letter, and is not replayed by the same command."""
    router = await mesh.start_router("r-1")
    await lay(mesh.nats, *(a_dead(request_id=new_request_id()) for _ in range(300)))
    async with worker(router.address, mesh.model, max_batch=1, heartbeat_s=0.3) as hands:
        replaying = asyncio.create_task(
            dead_process(fresh_nats, "replay", "--model", "fake", "--yes", "--json")
        )
        failed = await fail_for_good(hands)
        await mesh.result(a_request(id=failed))  # its letter is there now, however quick the command was
        done = await replaying
        assert done.returncode == 0, done.stderr
        assert [line["state"] for line in lines(done)] == ["replayed"] * 300
        assert len({line["new_request_id"] for line in lines(done)}) == 300
        assert [letter.number for letter in await every(mesh.nats)] == [301]


@pytest.mark.integration
class TestOnABroker:
    """With letters as a router writes them, and nobody who answers."""

    async def test_list_filters_limits_and_orders(self, broker: Any, fresh_nats: EmbeddedNats) -> None:
        """The newest first; each filter chooses; a hint where there are more."""
        await lay(broker, a_dead(), a_dead(failure=MALFORMED, subject="hr.v1.req.other.high.acme"), a_dead())

        async def found(*flags: str) -> list[int]:
            return [line["letter"] for line in lines(await dead(fresh_nats, "list", "--json", *flags))]

        assert await found() == [3, 2, 1]
        assert await found("--code", "malformed_message") == [2]
        assert await found("--model", "fake") == [3, 1]
        assert await found("--tenant", "acme", "--since", "1h30m") == [2]
        assert await found("--limit", "0") == [3, 2, 1]
        limited = await dead(fresh_nats, "list", "--limit", "2")
        assert "there are more than 2" in limited.stderr

    async def test_json_holds_what_the_table_holds(self, broker: Any, fresh_nats: EmbeddedNats) -> None:
        """An object a line, and no content in it."""
        letter = a_dead(body=b'{"prompt": "the secret of the house"}')
        await lay(broker, letter)
        done = await dead(fresh_nats, "list", "--json")
        assert SECRET not in done.stdout
        assert lines(done) == [
            {
                "letter": 1,
                "time": "2026-11-18T11:06:40.000+00:00",
                "request_id": letter.request_id,
                "subject": letter.subject,
                "code": "TOO_MANY_ATTEMPTS",
                "attempts": 5,
                "message": letter.failure.message,
            }
        ]

    async def test_show_tells_all_but_the_content(self, broker: Any, fresh_nats: EmbeddedNats) -> None:
        """Headers, trace and whether it can be replayed; with --content the request, or what stands in its place."""
        trace = TraceContext(traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
        body = json.dumps({"promt": SECRET}).encode()
        await lay(
            broker,
            a_dead(headers={"ce-type": "ask"}, trace=trace),
            a_dead(failure=MALFORMED, body=body, request_id=""),
            a_dead(body=b"\xff\xfe"),
        )
        (whole,) = lines(await dead(fresh_nats, "show", "1", "--json"))
        assert (whole["trace_id"], whole["headers"], whole["replay"]) == (
            "ab" * 16,
            {"ce-type": "ask"},
            "possible",
        )
        assert whole["body_bytes"] == 19
        assert not {"request", "text", "base64"} & whole.keys()
        malformed = await dead(fresh_nats, "show", "2")
        assert "no field promt" in malformed.stdout
        assert SECRET not in malformed.stdout
        (asked,) = lines(await dead(fresh_nats, "show", "1", "--json", "--content"))
        assert asked["request"] == {"prompt": "hello"}
        (text,) = lines(await dead(fresh_nats, "show", "2", "--json", "--content"))
        assert text["text"] == body.decode()
        (bytes_,) = lines(await dead(fresh_nats, "show", "3", "--json", "--content"))
        assert bytes_["base64"] == "//4="

    async def test_drop_by_number_and_by_filter(self, broker: Any, fresh_nats: EmbeddedNats) -> None:
        """Those that are named, and those that are meant; the others stay."""
        await lay(broker, a_dead(), a_dead(failure=MALFORMED), a_dead(), a_dead(failure=MALFORMED))
        done = await dead(fresh_nats, "drop", "1", "9", "--json")
        assert done.returncode == 1
        assert [(line["letter"], line["state"]) for line in lines(done)] == [(1, "dropped"), (9, "missing")]
        assert "dropped 1 letter, 1 not" in done.stderr
        done = await dead(fresh_nats, "drop", "--code", "MALFORMED_MESSAGE", "--yes")
        assert (done.returncode, done.stdout) == (0, "")
        assert "dropped 2 letters" in done.stderr
        assert [letter.number for letter in await every(broker)] == [3]

    async def test_many_are_counted_and_asked_for(self, broker: Any, fresh_nats: EmbeddedNats) -> None:
        """No and an end of input leave everything as it is; yes goes on; nothing matches is no failure."""
        await lay(broker, *[a_dead()] * 3)
        for said in ("n\n", ""):
            done = await dead(fresh_nats, "drop", "--all", stdin=said)
            assert done.returncode == 1
            assert "drop 3 letters?" in done.stderr
            assert len(await every(broker)) == 3
        assert (await dead(fresh_nats, "drop", "--all", stdin="y\n")).returncode == 0
        assert await every(broker) == []
        nothing = await dead(fresh_nats, "drop", "--all")
        assert (nothing.returncode, nothing.stderr) == (0, "no letter matches\n")

    async def test_a_refused_replay_says_why_and_the_others_go_on(
        self, broker: Any, fresh_nats: EmbeddedNats
    ) -> None:
        """Exit code 1; the letter is still there. A passed deadline can be left out."""
        late = b'{"prompt": "x", "deadline": "2026-01-01T00:00:00Z"}'
        await lay(broker, a_dead(body=b"{", failure=MALFORMED), a_dead(), a_dead(body=late), a_dead(body=b""))
        done = await dead(fresh_nats, "replay", "--all", "--yes", "--json")
        assert done.returncode == 1
        assert {line["letter"]: line["state"] for line in lines(done)} == {
            1: "refused",
            2: "replayed",
            3: "refused",
            4: "refused",
        }
        assert [letter.number for letter in await every(broker)] == [1, 3, 4]
        for reason in ("is not JSON", "deadline passed", "too large to be kept"):
            assert reason in done.stderr
        assert (await dead(fresh_nats, "replay", "3", "--no-deadline")).returncode == 0

    async def test_the_address_comes_from_the_settings_too(
        self, broker: Any, fresh_nats: EmbeddedNats
    ) -> None:
        """As for every other command."""
        await lay(broker, a_dead())
        done = await asyncio.to_thread(
            run, "dead", "list", "--json", env={"HEADRACE_NATS_URL": fresh_nats.url}
        )
        assert [line["letter"] for line in lines(done)] == [1]

    async def test_hostile_text_does_not_reach_the_terminal_as_orders(
        self, broker: Any, fresh_nats: EmbeddedNats
    ) -> None:
        """Nor is it taken for markup."""
        await lay(
            broker, a_dead(failure=Failure(code="X", message="[red]a[/red] [b"), headers={"[b]": "[/b]"})
        )
        assert "[red]a[/red] [b" in (await dead(fresh_nats, "list")).stdout
        assert "[b]: [/b]" in (await dead(fresh_nats, "show", "1")).stdout


@pytest.mark.parametrize("command", [("list",), ("show", "1"), ("replay", "1"), ("drop", "--all", "--yes")])
def test_a_broker_that_is_not_there(command: tuple[str, ...]) -> None:
    """One line with the address and the remedy, at once; exit code 1."""
    url = f"nats://user:secret@127.0.0.1:{free_port()}"
    done = runner.invoke(app, ["dead", *command, "--nats-url", url])
    assert done.exit_code == 1
    assert "connection refused. Start a mesh with `headrace up`" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.integration
def test_a_broker_without_dead_letters(fresh_nats: EmbeddedNats) -> None:
    """Somebody else's NATS: what is missing is said, and nothing is made there."""
    done = runner.invoke(app, ["dead", "list", "--nats-url", fresh_nats.url])
    assert done.exit_code == 1
    assert "no stream HEADRACE_DEAD" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["drop"], "--all takes every one"),
        (["replay", "1", "--all"], "which letters?"),
        (["drop", "1", "--code", "X"], "which letters?"),
        (["list", "--since", "soon"], "--since"),
        (["list", "--model", ">"], "model"),
        (["list", "--limit", "0"], "--limit"),
        (["show", "0"], "N"),
        (["show"], "N"),
        (["list", "--nats-url", "http://x"], "nats.url"),
    ],
)
def test_bad_input_is_refused_before_anything_is_done(arguments: list[str], word: str) -> None:
    """Exit code 2, and the flag is named."""
    result = runner.invoke(app, ["dead", *arguments])
    assert result.exit_code == 2, result.stderr
    assert word in result.stderr


@pytest.mark.parametrize("command", ["list", "show", "replay", "drop"])
def test_every_command_explains_itself_with_examples(command: str) -> None:
    """Its help ends with examples that begin with `headrace dead`."""
    result = runner.invoke(app, ["dead", command, "--help"])
    assert result.exit_code == 0
    assert f"headrace dead {command}" in result.output.partition("Examples:")[2]


def test_durations() -> None:
    """Numbers with units, joined as a person does."""
    said = ("90s", "15m", "2h", "7d", "1h30m", "0.5h")
    assert [duration_s(text) for text in said] == [90, 900, 7200, 604_800, 5400, 1800]
