"""`headrace up`: a whole mesh of real processes, with the fake model."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from pathlib import Path

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
    """kill -9 in the middle of a stream: a new worker within about a second, and no gap and no repeat in the stream."""
    count = 60
    ask = ("generate", "--address", mesh.gateway, "--json", "--max-tokens", str(count), "hello")
    undisturbed = [json.loads(line) for line in run(*ask).stdout.splitlines()]
    killed = mesh.children()["worker"]
    with Running(*ask) as stream:
        stream.wait_for('"first_index": 10,')
        killed.kill()
        began = time.monotonic()
        mesh.wait_for("worker was ended by SIGKILL; starting it again")
        mesh.wait_for(r"router +│.*worker\.joined")
        assert time.monotonic() - began < 5.0  # about 1 s on a machine that does nothing else
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
    """A stream that runs is let to its end; gateway, router and worker drain in this order; exit code 0; no process."""
    with Running.up(fake_store, tmp_path) as mesh:
        mesh.wait_for("Ctrl-C drains")
        assert len(mesh.children()) == 4
        ask = ("generate", "--address", mesh.gateway, "--json", "--max-tokens", "60", "hello")
        with Running(*ask) as stream:
            stream.wait_for('"first_index": 5,')
            assert mesh.end(signal.SIGINT) == 0
            assert stream.wait() == 0
            assert json.loads(stream.said[-1])["usage"]["output_tokens"] == 60
        said = [re.match(r"(\w+) +│.*draining  reason=SIGTERM", line) for line in mesh.said]
        assert [found[1] for found in said if found] == ["gateway", "router", "worker"]
        assert mesh.left_over(patience_s=1.0) == []


def test_a_port_in_use_is_told_before_anything_starts(fake_store: Path, tmp_path: Path) -> None:
    """One line with the port and its setting, exit code 1, and no process."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Running.up(fake_store, tmp_path, "--port", str(port)) as mesh:
            assert mesh.wait() == 1
            assert f"127.0.0.1:{port} is in use" in mesh.output
            assert "--port" in mesh.output or "gateway.port" in mesh.output
            assert mesh.left_over() == []


def test_without_a_model_and_without_pulling_it_says_what_to_do(tmp_path: Path) -> None:
    """The command that brings a model, exit code 1."""
    (tmp_path / "empty").mkdir()
    with Running.up(tmp_path / "empty", tmp_path / "state") as mesh:
        assert mesh.wait() == 1
        assert "headrace model pull smollm2" in mesh.output
