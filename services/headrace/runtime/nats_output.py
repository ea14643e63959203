"""What a nats-server says on stderr: when it is ready, where it listens, why it failed."""

from __future__ import annotations

import re
import threading
from collections import deque

import structlog

from headrace.contract.errors import StartError

log = structlog.get_logger(__name__)

_LINE = re.compile(r"^(?:\[\d+\] )?(?:[\d/]+ [\d:.]+ )?\[(?P<level>[A-Z]{3})\] (?P<text>.*)$")
_LISTENS = re.compile(r"Listening for client connections on (?P<host>\S+):(?P<port>\d+)$")
_READY = "Server is ready"
_STORE_FAILED = "Critical write error"
_KEPT_LINES = 10


class ServerOutput:
    """Understands the server's lines, and passes its warnings and errors on to our log.

    Thread-safe in this sense: one thread calls `feed` and `give_up`, any thread may wait and read.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._ready = False
        self._over = threading.Event()
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)
        self._fatal = ""
        self.store_failed = False
        """Whether a write failed since the start: the server stores nothing more in that stream."""

    def __repr__(self) -> str:
        state = "ready" if self.ready else "ended" if self._over.is_set() else "starting"
        return f"{self.url} {state}"

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def url(self) -> str:
        """Where clients connect. An address that means "all" is dialled over loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 (dialled, not bound)
        return f"nats://[{host}]:{self._port}" if ":" in host else f"nats://{host}:{self._port}"

    def feed(self, line: str) -> None:
        """Takes one line of stderr."""
        found = _LINE.match(line)
        level, text = (found["level"], found["text"]) if found else ("", line)
        self._last.append(text)
        if listens := _LISTENS.search(text):
            self._port = int(listens["port"])
        elif text == _READY:
            self._ready = True
            self._over.set()
        if _STORE_FAILED in text:
            self.store_failed = True
        if level == "FTL":
            self._fatal = text
        if level == "WRN":
            log.warning("nats-server warns", said=text)
        elif level in ("ERR", "FTL"):
            log.error("nats-server reports an error", said=text)

    def give_up(self) -> None:
        """The server has ended, or nobody waits for it any more."""
        self._over.set()

    def wait(self, timeout_s: float) -> None:
        """Blocks until the server is ready. Raises StartError where it ends or is not ready in time."""
        in_time = self._over.wait(timeout_s)
        if self._ready:
            return
        if not in_time:
            raise StartError(
                f"the embedded NATS server was not ready within {timeout_s:g} s",
                "A large store takes longer: raise HEADRACE_NATS_START_TIMEOUT_S",
            )
        if "address already in use" in self._fatal:
            raise cannot_listen(self._host, self._port, "address already in use")
        raise StartError(
            f"the embedded NATS server ended at start: {self._fatal or '; '.join(self._last) or 'silently'}"
        )


def cannot_listen(host: str, port: int, problem: str) -> StartError:
    """The embedded server cannot have its address."""
    return StartError(
        f"the embedded NATS server cannot listen on {host} port {port}: {problem}",
        "Set HEADRACE_NATS_PORT to another port (0 takes a free one), or HEADRACE_NATS_URL to the server there",
    )
