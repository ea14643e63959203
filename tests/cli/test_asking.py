"""`headrace generate`, `submit`, `result`, `cancel`, `models`: what a person at a terminal gets."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess

import nats
import pytest

from headrace.contract.ids import new_request_id
from headrace.contract.queue_wire import encode_result
from headrace.contract.subjects import result_subject
from headrace.contract.values import Outcome, OutcomeKind, PayloadReference, Usage
from tests.cli.running import Running, run
from tests.ports import free_port

pytestmark = pytest.mark.integration


def test_generate_prints_the_answer_alone_on_stdout(mesh: Running) -> None:
    """So that it can be piped; what it took goes to stderr."""
    done = run("generate", "--address", mesh.gateway, "--max-tokens", "4", "hello")
    assert done.returncode == 0
    assert len(done.stdout.strip().encode()) <= 8
    assert "4 tokens" in done.stderr


def test_json_gives_an_event_a_line(mesh: Running) -> None:
    """accepted first, finished last, and tokens between, with indices."""
    done = run("generate", "--address", mesh.gateway, "--json", "--max-tokens", "4", "hello")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "accepted"
    assert events[-1]["event"] == "finished"
    assert {event["event"] for event in events[1:-1]} <= {"tokens", "queued"}


def test_no_gateway_says_how_to_get_one() -> None:
    """One line, exit code 1, no traceback."""
    done = run("generate", "--address", f"127.0.0.1:{free_port()}", "hello")
    assert done.returncode == 1
    assert "headrace up" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--temperature", "9"), "temperature"),
        (("--priority", "urgent"), "realtime"),
        (("--max-tokens", "0"), "max-tokens"),
        (("--model", "nobody"), "fake"),
        (("--stop", ""), "stop"),
    ],
)
def test_bad_input_names_the_field(mesh: Running, flags: tuple[str, str], says: str) -> None:
    """Exit code 2, and what is allowed."""
    done = run("generate", "--address", mesh.gateway, *flags, "hello")
    assert done.returncode == 2, done.stderr
    assert says in done.stderr


def test_ctrl_c_cancels_the_request(mesh: Running) -> None:
    """Exit code 130, and the durable outcome says cancelled."""
    with Running("generate", "--address", mesh.gateway, "--json", "--max-tokens", "2000", "hello") as stream:
        accepted = stream.wait_for('"accepted"')
        request_id = json.loads(accepted.string)["request_id"]
        stream.wait_for('"first_index": [1-9]')
        assert stream.end(signal.SIGINT) == 130
        assert f"`headrace result {request_id}` has what was made" in stream.output
    done = run("result", "--address", mesh.gateway, "--wait", "20", "--json", request_id)
    assert '"cancelled"' in done.stdout


def test_a_deadline_that_comes_in_mid_stream_is_no_bad_input(mesh: Running) -> None:
    """Exit code 1, what happened, and where the rest is; as JSON with the request's id."""
    done = run(
        *("generate", "--address", mesh.gateway, "--json", "--max-tokens", "2000", "--timeout", "1", "hello")
    )
    said, event = done.stderr.splitlines(), json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert said[0].startswith("headrace: deadline: has passed before the request was done")
    assert f"headrace result {event['request_id']}" in said[1]
    assert (event["event"], event["code"]) == ("error", "DEADLINE_PASSED")


def test_a_request_under_an_id_of_ones_own_is_done_once(mesh: Running) -> None:
    """Sent twice it has one answer; and what has no answer yet says how to come by it."""
    request_id, at = new_request_id(), ("--address", mesh.gateway)
    for _ in range(2):
        done = run("submit", *at, "--request-id", request_id, "--max-tokens", "3000", "hello")
        assert done.stdout.strip() == request_id
    early = run("result", *at, request_id)
    assert (early.returncode, "`headrace attach` streams it" in early.stderr) == (1, True)
    assert run("cancel", *at, request_id).returncode == 0


def test_submit_result_and_models(mesh: Running) -> None:
    """A request is left with the mesh, and fetched by its id."""
    request_id = run("submit", "--address", mesh.gateway, "--max-tokens", "5", "hello").stdout.strip()
    done = run("result", "--address", mesh.gateway, "--wait", "20", "--json", request_id)
    assert json.loads(done.stdout)["usage"]["output_tokens"] == 5
    listed = json.loads(run("models", "--address", mesh.gateway, "--json").stdout)
    assert "fake" in json.dumps(listed)


async def test_an_answer_that_is_gone_is_no_empty_answer(mesh: Running) -> None:
    """Exit code 1 and the reason, where an outcome's object cannot be read."""
    found = re.search(r"NATS +(nats://\S+)", mesh.output)
    assert found
    gone = PayloadReference(object="default/res/gone", size_bytes=1, sha256="")
    outcome = Outcome(
        request_id=new_request_id(), kind=OutcomeKind.COMPLETED, model="fake", usage=Usage(), payload=gone
    )
    connection = await nats.connect(found[1])
    subject = result_subject("default", outcome.request_id)
    await connection.jetstream().publish(subject, encode_result(outcome, as_json=True))
    await connection.close()
    done = await asyncio.to_thread(run, "result", "--address", mesh.gateway, outcome.request_id)
    assert done.returncode == 1
    assert "text and tokens cannot be read" in done.stderr


def texts(done: subprocess.CompletedProcess[str]) -> str:
    """What the events of a --json output say together."""
    return "".join(json.loads(line).get("text", "") for line in done.stdout.splitlines())


def test_attach_streams_what_was_submitted(mesh: Running) -> None:
    """From its beginning or from a token on; `submit` says how, beside the id that a script reads."""
    at = ("--address", mesh.gateway)
    submitted = run("submit", *at, "--max-tokens", "30", "hello")
    request_id = submitted.stdout.strip()
    assert f"headrace attach {request_id}" in submitted.stderr
    whole = run("attach", *at, "--json", request_id)
    events = [json.loads(line) for line in whole.stdout.splitlines()]
    assert (events[0]["event"], events[-1]["event"], events[-1]["outcome"]) == (
        "accepted",
        "finished",
        "completed",
    )
    assert run("attach", *at, request_id).stdout == texts(whole) + "\n"
    rest = run("attach", *at, "--json", "--from", "12", request_id)
    assert json.loads(rest.stdout.splitlines()[1])["first_index"] == 12
    assert texts(whole).endswith(texts(rest))
    beyond = run("attach", *at, "--from", "31", request_id)
    assert (beyond.returncode, "30 tokens" in beyond.stderr) == (2, True)


def test_attach_to_what_nobody_knows_says_so(mesh: Running) -> None:
    """Exit code 1, after the wait that was asked for."""
    done = run("attach", "--address", mesh.gateway, "--wait", "0", "0198c5a2-0000-7000-8000-000000000000")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "0198c5a2-0000-7000-8000-000000000000" in done.stderr


def test_a_kept_request_outlives_ctrl_c(mesh: Running) -> None:
    """It says the way back, which goes on where it was."""
    at = ("--address", mesh.gateway)
    with Running("generate", *at, "--keep", "--json", "--max-tokens", "100", "hello") as stream:
        stream.wait_for('"first_index": [1-9]')
        assert stream.end(signal.SIGINT) == 130
        way_back = re.search(r"`headrace (attach \S+ --from \d+)`", stream.output)
        assert way_back, stream.output
        came = "".join(json.loads(line).get("text", "") for line in stream.said if line.startswith("{"))
    request_id = way_back[1].split()[1]
    rest = run(*way_back[1].split(), *at, "--json")
    whole = run("result", *at, "--wait", "20", "--json", request_id)
    assert json.loads(whole.stdout)["outcome"] == "completed"
    assert came + texts(rest) == json.loads(whole.stdout)["text"]


def test_ctrl_c_ends_an_attached_view_and_nothing_else(mesh: Running) -> None:
    """The request goes on to its end."""
    at = ("--address", mesh.gateway)
    request_id = run("submit", *at, "--max-tokens", "200", "hello").stdout.strip()
    with Running("attach", *at, "--json", request_id) as stream:
        stream.wait_for('"first_index"')
        assert stream.end(signal.SIGINT) == 130
        assert f"headrace attach {request_id}" in stream.output
    done = run("result", *at, "--wait", "20", "--json", request_id)
    assert json.loads(done.stdout)["outcome"] == "completed"


def test_several_addresses_are_tried_in_turn(mesh: Running) -> None:
    """A gateway that is not there is passed over."""
    at = ("--address", f"127.0.0.1:{free_port()},{mesh.gateway}")
    request_id = run("submit", *at, "--max-tokens", "3", "hello").stdout.strip()
    assert run("attach", *at, request_id).returncode == 0
    assert run("generate", *at, "--max-tokens", "3", "hello").returncode == 0
    assert run("members", *at).returncode == 0
