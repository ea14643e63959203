"""Addresses to listen on and to dial: which are taken, which are free."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
from collections.abc import Iterable

import psutil

from headrace.contract.errors import StartError
from headrace.runtime.grpc_server import PortInUse

BELOW_CLIENTS = range(20_000, 32_000)
"""Below what Linux (32768) and macOS (49152) take for clients. A client that dials a dead server's port among those may
get that very port as its own, and be connected to itself; and any client may hold it when the server comes back."""
TRIES = 50
"""Ports that are tried in that range, each likely to be free, before the kernel is asked for any."""


def dialled(host: str, port: int) -> str:
    """`host:port` for a client on this machine: an address that means "all" is dialled over loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (dialled, not bound)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_ports(hosts: Iterable[str]) -> list[int]:
    """A free port on each host, all different. Nothing holds them: another program could still take one, which is
    unlikely, as they are below those that the kernel gives to clients and to whoever asks it for any port.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_bound_below(host)) for host in hosts]
        return [int(each.getsockname()[1]) for each in sockets]


def check_free(host: str, port: int, setting: str) -> None:
    """Raises PortInUse, or StartError for an address that is not this machine's. `setting` is what to change."""
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port, _with_holder(setting, port)) from error
        problem = error.strerror or os.strerror(error.errno or 0)
        raise StartError(f"cannot listen on {dialled(host, port)}: {problem}", f"Change {setting}") from error


def _bound_below(host: str) -> socket.socket:
    for _ in range(TRIES):
        with contextlib.suppress(OSError):
            return _bound(host, secrets.choice(BELOW_CLIENTS))
    return _bound(host, 0)  # a full range, or a host that is not here, which this says


def _bound(host: str, port: int) -> socket.socket:
    family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
    except OSError:
        bound.close()
        raise
    return bound


def _with_holder(setting: str, port: int) -> str:
    """The setting, and who has the port where that can be seen: another user's process cannot."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f"{setting} (it is held by {psutil.Process(connection.pid).name()}, process {connection.pid})"
    return setting
