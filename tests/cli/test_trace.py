"""`headrace trace` and `headrace traces` on a mesh of real processes, with no other backend."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.cli.running import Running, run

pytestmark = pytest.mark.integration


def test_a_request_s_way_is_shown_with_its_cause(mesh: Running) -> None:
    """All its processes, their spans under one another, and what it took in words; by its id and by its trace's."""
    asked = run("generate", "--address", mesh.gateway, "--json", "--max-tokens", "10", "hello")
    request_id = json.loads(asked.stdout.splitlines()[-1])["request_id"]
    found = _told(mesh, request_id)
    assert {span["process"] for span in found["spans"]} == {"gateway", "router", "worker"}
    assert found["causes"]
    shown = run("trace", "--address", mesh.gateway, request_id)
    assert shown.returncode == 0, shown.stderr
    for word in (
        "completed",
        "InferenceService/Generate",
        "queue",
        "schedule",
        "first token",
        "█",
        found["causes"][0],
    ):
        assert word in shown.stdout
    assert found["trace_id"] in run("trace", "--address", mesh.gateway, found["trace_id"]).stdout
    listed = run("traces", "--address", mesh.gateway, "--json")
    assert request_id in {each["request_id"] for each in json.loads(listed.stdout)}
    assert request_id in run("traces", "--address", mesh.gateway).stdout


def test_a_request_that_nobody_remembers_is_an_error(mesh: Running) -> None:
    """In a line, with the id."""
    done = run("trace", "--address", mesh.gateway, "nobody")
    assert done.returncode == 1
    assert "nobody" in done.stderr


def _told(mesh: Running, request_id: str) -> dict[str, Any]:
    """Its trace, once the call's span is there: it is the last to end."""
    for _ in range(50):
        done = run("trace", "--address", mesh.gateway, "--json", request_id)
        if done.returncode == 0:
            found: dict[str, Any] = json.loads(done.stdout)
            if any(span["name"].endswith("/Generate") for span in found["spans"]) and found["outcome"]:
                return found
        time.sleep(0.2)  # spans are told every quarter of a second
    raise AssertionError(f"no trace: {done.stdout} {done.stderr}")
