"""The configuration file of the embedded NATS server."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import structlog

from headrace.contract.errors import StartError
from headrace.runtime.settings import NatsSettings

log = structlog.get_logger(__name__)


def write_config(settings: NatsSettings) -> Path:
    """Writes the file into the store folder, readable by its owner alone since it may hold a password."""
    path = settings.store_dir / "nats-server.conf"
    try:
        # Unlinked first: an existing file would keep its mode, and a symbolic link would be followed.
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(config_text(settings))
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}") from error
    if not _is_loopback(settings.host) and settings.user is None and settings.token is None:
        log.warning(
            "the embedded NATS server is open to the network without a password; set nats.user and nats.password",
            host=settings.host,
        )
    return path


def config_text(settings: NatsSettings) -> str:
    """The configuration in the server's own language."""
    lines = [
        "# Written by Headrace at each start: changes here are lost.",
        'server_name: "headrace"',
        f"host: {_quote(settings.host, 'nats.host')}",
        f"port: {settings.port or -1}",  # -1 takes any free port
        f"max_payload: {settings.max_payload_bytes}",
        # A client that reads slowly is dropped beyond this; it must hold a few of the largest messages.
        f"max_pending: {max(64 * 1024 * 1024, 4 * settings.max_payload_bytes)}",
        "jetstream {",
        f"  store_dir: {_quote(str(settings.store_dir.absolute()), 'nats.store_dir')}",
        f"  sync_interval: {_quote(settings.sync_interval, 'nats.sync_interval')}",
        "}",
    ]
    if settings.user is not None:
        password = settings.password.get_secret_value() if settings.password else ""
        user, secret = _quote(settings.user, "nats.user"), _quote(password, "nats.password")
        lines.append(f"authorization {{ user: {user}, password: {secret} }}")
    elif settings.token is not None:
        lines.append(f"authorization {{ token: {_quote(settings.token.get_secret_value(), 'nats.token')} }}")
    return "\n".join([*lines, ""])


def _quote(text: str, key: str) -> str:
    """A string in the server's language, which knows fewer escapes than JSON: control characters are refused."""
    if not text.isprintable():
        raise StartError(f"{key} holds characters that cannot stand in the NATS server's configuration")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
