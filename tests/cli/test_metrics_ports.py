"""`headrace up` with a Prometheus port: each process has one of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from headrace.cli.members import scrape_targets
from headrace.cli.mesh import plan_mesh
from headrace.contract.admin import Member, MemberKind


def ports(tmp_path: Path, **metrics: object) -> list[str | None]:
    """What router, gateway and two workers are told."""
    overrides = {
        "gateway.port": 0,
        "router.port": 0,
        "nats.port": 0,
        "nats.store_dir": tmp_path,
        **{f"metrics.{name}": value for name, value in metrics.items()},
    }
    mesh = plan_mesh(overrides, environ={}, workers=2)
    try:
        environs: list[Mapping[str, str]] = [
            mesh.router_spec(lambda name, line: None).environ,
            mesh.gateway_spec(lambda name, line: None).environ,
            *(spec.environ for spec in mesh.worker_specs(lambda name, line: None)),
        ]
    finally:
        assert mesh.nats is not None
        mesh.nats.release()
    return [environ.get("HEADRACE_METRICS_PORT") for environ in environs]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, [None] * 4),
        ({"port": 0}, ["0"] * 4),
        ({"port": 9464}, ["9464", "9465", "9466", "9467"]),
    ],
)
def test_each_process_has_a_port(tmp_path: Path, asked: dict[str, object], told: list[str | None]) -> None:
    """Counted on from the one that is set, so that Prometheus finds each at a place that stays; 0 stays 0."""
    assert ports(tmp_path, **asked) == told


def test_targets_are_those_that_have_an_endpoint() -> None:
    """As file_sd_configs reads them; a member without an endpoint is no target that fails."""
    found = [
        Member(kind=MemberKind.ROUTER, id="r", metrics="10.0.0.1:9464"),
        Member(kind=MemberKind.WORKER, id="w"),
    ]
    assert scrape_targets(found) == [
        {"targets": ["10.0.0.1:9464"], "labels": {"headrace_kind": "router", "headrace_member": "r"}}
    ]
