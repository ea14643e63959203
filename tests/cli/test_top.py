"""`headrace top` and `headrace up --console`, on a mesh of real processes."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest

from tests.cli.running import Running, run

pytestmark = pytest.mark.integration


def nats_of(mesh: Running) -> str:
    found = re.search(r"NATS +(nats://\S+)", mesh.output)
    assert found, mesh.output
    return found[1]


def test_top_once_is_for_programs(mesh: Running) -> None:
    """Routers, workers and models as JSON, and how quick answers were since the start."""
    run("generate", "--address", mesh.gateway, "--max-tokens", "3", "hello")
    done = run("top", "--json", "--nats-url", nats_of(mesh))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (router,) = told["routers"]
    assert (router["workers"], router["slots"], router["silent"]) == (1, 1, 0)
    (worker,) = told["workers"]
    assert (worker["router"], worker["device"], worker["models"]) == (router["id"], "cpu", ["fake"])
    assert [model["id"] for model in told["models"]] == ["fake"]
    assert len(told["gateways"]) == 1
    assert told["mesh"]["connected"]
    assert 0 < told["figures"]["first50"][-1] < 30


def test_top_once_is_for_people(mesh: Running) -> None:
    """A head with the figures, then routers and workers, without a terminal's codes where there is none."""
    done = run("top", "--once", "--nats-url", nats_of(mesh))
    assert done.returncode == 0, done.stderr
    assert "first token p50" in done.stdout
    assert "serving" in done.stdout
    assert "\x1b" not in done.stdout


def test_top_says_that_nats_is_not_there() -> None:
    """In a line, at once; exit code 1."""
    done = run("top", "--once", "--nats-url", "nats://127.0.0.1:9")
    assert done.returncode == 1
    assert "NATS at nats://127.0.0.1:9 is not reachable" in done.stderr


def test_up_runs_the_console_and_says_where(fake_store: Path, tmp_path: Path) -> None:
    """Its page answers; no token is printed where nobody sits at a terminal; it ends with the mesh."""
    with Running.up(fake_store, tmp_path, "--console") as mesh:
        mesh.wait_for("Ctrl-C drains")
        found = re.search(r"console +(http://127\.0\.0\.1:\d+/)(\S*)\n", mesh.output)
        assert found, mesh.output
        assert found[2] == ""
        with urllib.request.urlopen(found[1], timeout=30) as page:
            assert b"<title>Headrace</title>" in page.read()
        assert "console" in mesh.children()
        assert mesh.end() == 0
        assert mesh.left_over(patience_s=1.0) == []
