"""The Prometheus endpoint of a process: `GET /metrics` over HTTP, in threads of its own.

Imported only where it is asked for.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import threading
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from headrace.contract.errors import StartError
from headrace.runtime.grpc_server import PortInUse

SETTING = "metrics.port"
MAX_CONNECTIONS = 8
"""At once: two Prometheus servers and a person. Further ones are closed at once, and come back at the next scrape."""
SILENCE_S = 5.0
"""How long a connection may say nothing, or take nothing, before it is closed: it holds one of few threads."""
_POLL_S = 0.1  # how often the server looks whether it is to end


class MetricsEndpoint:
    """Serves what `registry` collects, from its making until `close`. `port` 0 takes any that is free."""

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int) -> None:
        """Raises PortInUse, or StartError for an address that cannot be bound."""
        self._server = _bind(host, port)
        self._server.set_app(_only_metrics(make_wsgi_app(registry)))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port` to scrape: as bound, or this machine's name where that is all of its addresses."""
        host, port = self._server.server_name, self._server.server_port
        if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
            host = socket.gethostname()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Stops; what is being answered is cut short at the process's end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_S

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False  # the process waits for no client that is slow

    def __init__(self, *args: Any) -> None:
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*args)

    def server_bind(self) -> None:
        # Not WSGIServer's: that looks the host's name up, which can take seconds where there is no name server.
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in mid-answer is no news either; socketserver would print a traceback."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _only_metrics(app: Any) -> Any:
    """The library's application answers any path; `/metrics` is the one that people know."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("PATH_INFO") == "/metrics":
            return app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"metrics are at /metrics\n"]

    return answer


def _bind(host: str, port: int) -> _Server:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartError(
            f"the host {host!r} of metrics.host cannot be resolved", "Use an address of this machine"
        ) from error
    family, _, _, _, where = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    kind = _Server6 if family == socket.AF_INET6 else _Server
    try:
        return kind(where, _Handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port, SETTING) from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StartError(f"cannot listen on {host}:{port}: {reason}", f"Change {SETTING}") from error
