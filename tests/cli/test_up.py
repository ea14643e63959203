"""`headrace up`: a whole mesh of real processes, with the fake model."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.running import Running, run

pytestmark = pytest.mark.integration


def test_ready_says_where_everything_is_and_what_to_do(mesh: Running) -> None:
    """The block names gateway, NATS and models, and its first request works as it is printed."""
    block = mesh.output.partition("Headrace is ready")[2]
    assert re.search(r"gRPC gateway +127\.0\.0\.1:\d+\n", block)
    assert re.search(r"NATS +nats://127\.0\.0\.1:\d+\n", block)
    assert "fake (1 lane)" in block
    assert "hr.v1.req.fake.normal.default" in block
    assert f"headrace generate --address {mesh.gateway} " in block
    done = run("generate", "--address", mesh.gateway, "--max-tokens", "3", "hello")
    assert (done.returncode, len(done.stdout.strip()) > 0) == (0, True)
    assert set(mesh.children()) == {"nats", "router", "gateway", "worker"}


def test_a_killed_worker_comes_back_and_its_stream_goes_on(mesh: Running) -> None:
    """kill -9 in the middle of a stream: a new worker at once, which joins, and no gap and no repeat in the stream."""
    count = 60
    ask = ("generate", "--address", mesh.gateway, "--json", "--max-tokens", str(count), "hello")
    undisturbed = [json.loads(line) for line in run(*ask).stdout.splitlines()]
    killed = mesh.children()["worker"]
    with Running(*ask) as stream:
        stream.wait_for('"first_index": [1-9]')
        killed.kill()
        mesh.wait_for(r"worker was ended by SIGKILL; starting it again +wait_s=0\b")
        mesh.wait_for(r"router +│.*worker\.joined")
        assert stream.wait() == 0
        disturbed = [json.loads(line) for line in stream.said]
    assert mesh.children()["worker"].pid != killed.pid
    assert disturbed[-1]["usage"]["attempts"] == 2
    assert tokens_of(disturbed) == tokens_of(undisturbed)
    assert len(tokens_of(disturbed)) == count


@pytest.mark.parametrize("name", ["gateway", "router", "nats"])
def test_whatever_falls_is_started_again(mesh: Running, name: str) -> None:
    """kill -9 of any process: another one takes its place, and the mesh answers again."""
    mesh.children()[name].kill()
    mesh.wait_for(f"{name} was ended by SIGKILL; starting it again")
    if name != "nats":
        mesh.wait_for(rf"{name} +│.*{name}\.ready")
    until = time.monotonic() + 30
    # Each attempt is a process that waits for the gateway by itself; nothing tells when it would do.
    while True:
        done = run("generate", "--address", mesh.gateway, "--max-tokens", "2", "hello")
        if done.returncode == 0:
            break
        assert time.monotonic() < until, done.stderr + mesh.output


def tokens_of(events: list[dict[str, object]]) -> list[tuple[object, object]]:
    """(index, token) of all chunks."""
    pairs: list[tuple[object, object]] = []
    for event in events:
        if event["event"] == "tokens":
            ids = event["token_ids"]
            first = event["first_index"]
            assert isinstance(ids, list)
            assert isinstance(first, int)
            pairs += [(first + place, token) for place, token in enumerate(ids)]
    return pairs


def test_ctrl_c_drains_in_order_and_leaves_nothing(fake_store: Path, tmp_path: Path) -> None:
    """A running stream gets to its end; gateway, router and worker drain in this order; exit code 0, no process."""
    with Running.up(fake_store, tmp_path) as mesh:
        mesh.wait_for("Ctrl-C drains")
        assert len(mesh.children()) == 4
        with Running(
            "generate", "--address", mesh.gateway, "--json", "--max-tokens", "40", "hello"
        ) as stream:
            stream.wait_for('"first_index": [1-9]')
            assert mesh.end(signal.SIGINT) == 0
            assert stream.wait() == 0
        said = [re.match(r"(\w+) +│.*draining  reason=SIGTERM", line) for line in mesh.said]
        assert [found[1] for found in said if found] == ["gateway", "router", "worker"]
        assert mesh.left_over(patience_s=1.0) == []


def test_a_second_signal_ends_everything_at_once(fake_store: Path, tmp_path: Path) -> None:
    """While a long stream is drained, a second Ctrl-C kills all; no process is left."""
    with Running.up(fake_store, tmp_path) as mesh:
        mesh.wait_for("Ctrl-C drains")
        mesh.children()
        with Running(
            "generate", "--address", mesh.gateway, "--json", "--max-tokens", "3000", "hello"
        ) as stream:
            stream.wait_for('"first_index": [1-9]')
            mesh.process.send_signal(signal.SIGTERM)
            mesh.wait_for("gateway .*draining")
            assert mesh.end(signal.SIGINT, patience_s=5.0) == 128 + signal.SIGINT
            assert mesh.left_over(patience_s=5.0) == []
            assert stream.wait(patience_s=90.0) == 1
            assert re.search(r"`headrace attach \S+ --from \d+` goes on from here", stream.output)


def test_children_end_with_a_supervisor_that_is_killed(fake_store: Path, tmp_path: Path) -> None:
    """kill -9 of `headrace up` itself: its children drain and end by themselves."""
    with Running.up(fake_store, tmp_path) as mesh:
        mesh.wait_for("Ctrl-C drains")
        assert len(mesh.children()) == 4
        assert mesh.end(signal.SIGKILL) == -signal.SIGKILL
        assert mesh.left_over(patience_s=20.0) == []


def test_ctrl_c_while_it_starts(fake_store: Path, tmp_path: Path) -> None:
    """Before anything is ready it ends as well, and leaves nothing."""
    with Running.up(fake_store, tmp_path) as mesh:
        mesh.wait_for("router.ready")
        mesh.children()
        assert mesh.end(signal.SIGINT) == 0
        assert mesh.left_over(patience_s=1.0) == []


def test_what_waits_in_the_queues_survives_a_restart_of_everything(fake_store: Path, tmp_path: Path) -> None:
    """`--state` keeps what was accepted: a mesh without a worker takes a request, the next one answers it."""
    with Running.up(fake_store, tmp_path, "--workers", "0") as mesh:
        mesh.wait_for("Ctrl-C drains")
        done = run("submit", "--address", mesh.gateway, "--model", "fake", "--max-tokens", "3", "hello")
        request_id = done.stdout.strip()
        assert mesh.end(signal.SIGINT) == 0
    with Running.up(fake_store, tmp_path) as mesh:
        mesh.wait_for("Ctrl-C drains")
        done = run("result", "--address", mesh.gateway, "--wait", "20", "--json", request_id)
        assert json.loads(done.stdout)["outcome"] == "completed", done.stderr
        assert mesh.end(signal.SIGINT) == 0


def test_every_port_in_use_is_named_before_anything_starts(fake_store: Path, tmp_path: Path) -> None:
    """Gateway's, router's and NATS's port taken: three lines, each with its setting; exit code 1, nothing started."""
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        ports = []
        for taken in (one, two, three):
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            ports.append(taken.getsockname()[1])
        settings = [
            f"{key}.port={port}" for key, port in zip(("gateway", "router", "nats"), ports, strict=True)
        ]
        flags = [word for setting in settings for word in ("--set", setting)]
        done = run(
            "up",
            "--no-console",
            "--no-pull",
            "--state",
            str(tmp_path),
            *flags,
            env={"HEADRACE_MODELS": str(fake_store)},
        )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    for port, setting in zip(ports, ("gateway.port", "router.port", "HEADRACE_NATS_PORT"), strict=True):
        assert any(str(port) in line and setting in line for line in lines), done.stderr
    assert f"process {os.getpid()}" in done.stderr


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    """With --no-pull and no model: the command that gets one, exit code 1, nothing started."""
    ports = ("--port", "0", "--set", "router.port=0", "--set", "nats.port=0")
    env = {"HEADRACE_MODELS": str(tmp_path / "models")}
    done = run("up", "--no-console", "--no-pull", "--state", str(tmp_path / "state"), *ports, env=env)
    assert done.returncode == 1
    assert "headrace model pull smollm2" in done.stderr


def test_a_model_that_nobody_knows_is_refused(fake_store: Path, tmp_path: Path) -> None:
    """Which ones there are is said."""
    with Running.up(fake_store, tmp_path, "--models", "gpt9") as mesh:
        assert mesh.wait() == 1
    assert "fake, minilm, smollm2" in mesh.output


def test_a_child_that_cannot_start_stops_everything(fake_store: Path, tmp_path: Path) -> None:
    """A worker without its device: its own reason in the last line, exit code 1, no process left."""
    with Running.up(fake_store, tmp_path, "--device", "cuda:7") as mesh:
        mesh.wait_for("router.ready")
        mesh.children()
        assert mesh.wait() == 1
        assert mesh.said[-1].startswith("headrace: worker cannot start: device cuda:7 was asked for")
        assert mesh.left_over(patience_s=1.0) == []


def test_a_nats_server_that_is_there_is_used(fake_store: Path, tmp_path: Path, mesh: Running) -> None:
    """With a NATS URL none is started, and the block says that it is not ours."""
    url = re.search(r"NATS +(nats://\S+)", mesh.output)
    assert url is not None
    with Running.up(fake_store, tmp_path, "--nats-url", url[1], "--workers", "2") as second:
        second.wait_for("Ctrl-C drains")
        assert set(second.children()) == {"router", "gateway", "worker", "worker (2)"}
        assert f"{url[1]}  (not ours)" in second.output
        assert second.end() == 0


def test_no_zombie_is_left_behind(mesh: Running) -> None:
    """Children that fell were reaped."""
    states = [child.status() for child in psutil.Process(mesh.process.pid).children()]
    assert psutil.STATUS_ZOMBIE not in states
