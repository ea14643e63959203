"""`headrace members` and `headrace drain` on a mesh of real processes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.cli.members import since
from headrace.worker.device import EngineInventory, find_device
from tests.cli.running import Running, run

pytestmark = pytest.mark.integration


def members(mesh: Running) -> dict[str, dict[str, Any]]:
    """By kind: there is one of each."""
    done = run("members", "--address", mesh.gateway, "--json")
    assert done.returncode == 0, done.stderr
    return {member["kind"]: member for member in json.loads(done.stdout)}


def test_members_are_listed_for_people_and_for_programs(mesh: Running) -> None:
    """Each process once, with where it is and what it does."""
    found = members(mesh)
    assert set(found) == {"router", "gateway", "worker"}
    assert found["gateway"]["address"] == mesh.gateway
    assert found["worker"]["router"] == found["router"]["id"]
    worker = found["worker"]
    assert (worker["lanes"], worker["slots"], worker["paused_lanes"], worker["device"]) == (4, 1, 0, "cpu")
    assert (found["router"]["lanes"], found["router"]["slots"]) == (4, 1)
    assert (found["router"]["models"], found["router"]["draining"]) == (["fake"], False)
    table = run("members", "--address", mesh.gateway).stdout
    for member in found.values():
        assert f"{member['kind']} " in table
        assert f" {member['id']} " in table
    assert "0 of 1" in table
    assert "serving" in table


def test_a_plan_is_made_for_each_worker_of_the_mesh(mesh: Running) -> None:
    """With the memory and the cores that it told its router."""
    worker = members(mesh)["worker"]["id"]
    done = run("plan", "135M", "--address", mesh.gateway, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {row["machine"] for row in found} == {worker}
    device = find_device("cpu", EngineInventory())
    assert {row["memory_bytes"] for row in found} == {device.memory_bytes}
    assert "yes" in {row["fits"] for row in found}


def test_a_drained_worker_ends_its_stream_and_is_started_again(mesh: Running) -> None:
    """In the middle of a stream: no second attempt; drain says what is left, and returns when it is gone."""
    worker = members(mesh)["worker"]["id"]
    pid = mesh.children()["worker"].pid
    with Running("generate", "--address", mesh.gateway, "--json", "--max-tokens", "400", "hello") as stream:
        stream.wait_for('"first_index": [1-9]')
        done = run("drain", "--address", mesh.gateway, worker)
        assert stream.wait() == 0
        assert json.loads(stream.said[-1])["usage"]["attempts"] == 1
    assert done.returncode == 0, done.stderr
    assert f"worker {worker} drains: 1 left, at most 30 s" in done.stderr
    assert f"worker {worker} has drained and is gone" in done.stdout
    mesh.wait_for("worker ended; starting it again")
    mesh.wait_for(r"router +│.*worker\.joined")
    assert mesh.children()["worker"].pid != pid


@pytest.mark.parametrize("kind", ["router", "gateway"])
def test_router_and_gateway_drain_and_come_back(mesh: Running, kind: str) -> None:
    """The gateway that is asked may be the one that goes."""
    member = members(mesh)[kind]["id"]
    done = run("drain", "--address", mesh.gateway, "--kind", kind, member)
    assert done.returncode == 0, done.stderr
    assert f"{kind} {member} has drained" in done.stdout
    mesh.wait_for(f"{kind} ended; starting it again")
    mesh.wait_for(rf"{kind} +│.*{kind}\.ready")
    mesh.wait_for(r"(worker|gateway) +│.*(worker|router)\.joined")
    assert run("generate", "--address", mesh.gateway, "--max-tokens", "2", "hello").returncode == 0


def test_a_drain_that_takes_longer_than_the_wait_is_said(mesh: Running) -> None:
    """It goes on all the same; without a wait the command returns at once."""
    worker = members(mesh)["worker"]["id"]
    with Running("generate", "--address", mesh.gateway, "--json", "--max-tokens", "1000", "hello") as stream:
        stream.wait_for('"first_index": [1-9]')
        begun = run("drain", "--address", mesh.gateway, "--wait", "0", worker)
        assert (begun.returncode, begun.stdout) == (0, "")
        assert members(mesh)["worker"]["draining"] is True
        late = run("drain", "--address", mesh.gateway, "--wait", "0.1", worker)
        assert late.returncode == 1
        assert f"worker {worker} is still there after 0.1 s; its drain goes on" in late.stderr
        assert stream.wait() == 0
    mesh.wait_for("worker ended; starting it again")
    mesh.wait_for(r"router +│.*worker\.joined")


def test_a_level_changes_while_processes_run(mesh: Running) -> None:
    """Of one process, which says so in its log, and back; a word that is no level is refused with those that are."""
    for kind, member in members(mesh).items():
        done = run("log-level", "--address", mesh.gateway, "--kind", kind, member["id"], "debug")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{kind} {member['id']} logs from debug up\n"
        mesh.wait_for(rf"{kind} +│.*log\.level  least=debug")
        back = run("log-level", "--address", mesh.gateway, "--kind", kind, member["id"], "as-set")
        assert back.stdout == f"{kind} {member['id']} logs as its settings say\n"
    worker = members(mesh)["worker"]["id"]
    loud = run("log-level", "--address", mesh.gateway, worker, "loud")
    assert loud.returncode == 2
    assert "'loud' is not one of" in loud.stderr
    nobody = run("log-level", "--address", mesh.gateway, "nobody", "debug")
    assert nobody.returncode == 1
    assert f"worker {worker}" in nobody.stderr


def test_an_unknown_member_is_said_with_those_that_there_are(mesh: Running) -> None:
    """Exit code 1, and one line."""
    done = run("drain", "--address", mesh.gateway, "nobody")
    assert done.returncode == 1
    worker = members(mesh)["worker"]["id"]
    assert done.stderr.startswith("headrace: no member 'nobody'; there are: router r-")
    assert f"worker {worker}" in done.stderr


def test_without_a_gateway_it_is_one_line() -> None:
    """As with every command that asks one."""
    done = run("members", "--address", "127.0.0.1:9")
    assert done.returncode == 1
    assert "no gateway answers at 127.0.0.1:9" in done.stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (42.9, "42s"), (63, "1m 3s"), (3600, "1h"), (7500, "2h 5m"), (273_600, "3d 4h"), (-1, "0s")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    """Two units are enough."""
    assert since(seconds) == text
