"""Ports that are picked for who asked for any."""

from __future__ import annotations

from headrace.cli.addresses import BELOW_CLIENTS, free_ports


def test_ports_that_are_picked_are_not_those_of_clients() -> None:
    """All different, and none that the kernel would give to a client that dials a server which is away."""
    ports = free_ports(["127.0.0.1"] * 50)
    assert len(set(ports)) == 50
    assert all(port in BELOW_CLIENTS for port in ports)
