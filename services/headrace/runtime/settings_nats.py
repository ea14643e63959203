"""Settings of the broker: how to reach it, the embedded one, and the bounds of what it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, Field, SecretStr, model_validator

from headrace.runtime.settings_section import Host, Port, Seconds, Section, UserPath

MIB = 1024 * 1024
GIB = 1024 * MIB

_SCHEMES = ("nats", "tls", "ws", "wss")


def _check_url(urls: str) -> str:
    """The text never quotes the URL: it may hold a password."""
    schemes = set()
    for url in urls.split(","):
        parts = urlsplit(url.strip())
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ValueError(
                "must be nats://HOST:PORT (or tls://, ws://, wss://), several with commas between"
            )
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("has a port that is not a number from 0 to 65535") from None
        schemes.add(parts.scheme in ("ws", "wss"))
    if len(schemes) > 1:
        raise ValueError("mixes websocket and plain addresses, which one client cannot use together")
    return urls


class NatsSettings(Section):
    """The connection to NATS, and the embedded server that is used when no URL is given."""

    # repr=False: a URL may carry a password.
    url: Annotated[str, AfterValidator(_check_url)] | None = Field(
        default=None,
        repr=False,
        description="Address of the NATS server, several with commas between. Without one, Headrace's own"
        " embedded server at nats.host:nats.port is meant.",
    )
    user: str | None = Field(default=None, description="User name, where the server asks for one.")
    password: SecretStr | None = Field(default=None, description="Password of nats.user.")
    token: SecretStr | None = Field(default=None, description="Access token, where the server asks for one.")
    creds_file: UserPath | None = Field(
        default=None,
        description="Credentials file (JWT and nkey) of a decentralised set-up. Needs the `nkeys` package.",
    )
    tls_ca_file: UserPath | None = Field(
        default=None, description="Certificate authority of the server, where the system does not know it."
    )
    connect_timeout_s: Seconds = Field(
        default=5.0,
        description="Seconds that one attempt to connect may take. A server in reach answers within"
        " milliseconds; what takes longer is a network that drops packets.",
    )
    reconnect_wait_s: Seconds = Field(
        default=0.25,
        description="Seconds before the second attempt to connect; doubled each time, with jitter, so that a"
        " restarted server is not met by all its clients at once.",
    )
    reconnect_max_wait_s: Seconds = Field(
        default=5.0,
        description="Longest wait in seconds between attempts: how late a server's return is noticed at worst.",
    )
    ping_interval_s: Seconds = Field(
        default=10.0,
        description="Seconds between pings. One that is unanswered when the next is due means that the connection is"
        " dead, so that a silent one is noticed within twice this; the library's 120 s would leave it for minutes.",
    )
    pending_bytes: int = Field(
        default=32 * MIB,
        ge=MIB,
        le=GIB,
        description="Bytes that may wait to be sent, while disconnected too. When it is full a publish fails at"
        " once. Must hold at least one message of the largest size.",
    )
    host: Host = Field(default="127.0.0.1", description="Address that the embedded server listens on.")
    port: Port = Field(default=4222, description="Port of the embedded server; 0 takes any that is free.")
    store_dir: UserPath = Field(
        default_factory=lambda: Path(platformdirs.user_data_path("headrace")) / "nats",
        description="Folder where the embedded server keeps queues and results.",
    )
    sync_interval: str = Field(
        default="2m",
        pattern=r"^(always|[1-9][0-9]*(ms|s|m|h))$",
        description="How often the embedded server syncs its files to disk: a duration, or `always`. A power cut"
        " can lose what was accepted since the last sync; `always` loses nothing and is much slower.",
    )
    max_payload_bytes: int = Field(
        default=8 * MIB,
        ge=64 * 1024,
        le=64 * MIB,
        description="Largest message that the embedded server takes: room for a long prompt or an outcome.",
    )
    start_timeout_s: Seconds = Field(
        default=30.0,
        description="Seconds that the embedded server may take to become ready. A large store is read at start.",
    )
    stop_grace_s: Seconds = Field(
        default=10.0,
        description="Seconds that the embedded server gets to write out and stop before it is killed.",
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=5,
        description="Servers of a NATS cluster that keep each stream. More than 1 needs a cluster.",
    )
    member_ttl_s: Seconds = Field(
        default=5.0,
        description="Seconds after which a router or gateway that no longer reports is taken off the list of"
        " members. Reports go out at a third of it, so that one lost report does no harm.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.reconnect_max_wait_s < self.reconnect_wait_s:
            raise ValueError("reconnect_max_wait_s must be at least reconnect_wait_s")
        if self.pending_bytes < self.max_payload_bytes:
            raise ValueError("pending_bytes must be at least max_payload_bytes")
        if self.password is not None and self.user is None:
            raise ValueError("password needs user")
        if self.token is not None and self.user is not None:
            raise ValueError("token and user exclude each other")
        return self

    @property
    def servers(self) -> list[str]:
        """The addresses to connect to; the embedded server's where no URL is set. May hold passwords."""
        if self.url is None:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return [f"nats://{host}:{self.port}"]
        return [url.strip() for url in self.url.split(",")]

    @property
    def shown(self) -> str:
        """The addresses as a person may see them: without user, password or token."""
        return ", ".join(without_credentials(url) for url in self.servers)


def without_credentials(url: str) -> str:
    """`url` without its user, password or token."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class QueueSettings(Section):
    """What the broker keeps: queues, results and dead letters. All are bounded."""

    max_messages_per_queue: int = Field(
        default=10_000,
        ge=1,
        le=100_000_000,
        description="Requests that may wait in one queue (one model, priority and tenant). When it is full,"
        " publishing to that queue is refused; the others go on.",
    )
    max_bytes: int = Field(
        default=GIB,
        ge=MIB,
        description="Bytes of all waiting requests. When full, every new request is refused. The server sets"
        " this much of its disk allowance aside.",
    )
    max_age_s: Seconds | None = Field(
        default=None,
        description="Seconds after which a waiting request is dropped unanswered. None: never, as what was"
        " accepted is answered; a deadline in the request ends it properly.",
    )
    duplicate_window_s: Seconds = Field(
        default=120.0,
        description="Seconds during which the broker swallows a second request with the same id: as long as a"
        " producer may go on trying to publish.",
    )
    result_max_age_s: Seconds = Field(
        default=86_400.0,
        description="Seconds that a result can be fetched: a day, for who was away over night.",
    )
    result_max_bytes: int = Field(
        default=GIB,
        ge=MIB,
        description="Bytes of all kept results. When full, results wait in the router and their requests stay"
        " unacknowledged until old results expire.",
    )
    dead_max_age_s: Seconds = Field(
        default=7 * 86_400.0,
        description="Seconds that a dead letter is kept: a week, so that a person can look at it.",
    )
    dead_max_bytes: int = Field(
        default=256 * MIB, ge=MIB, description="Bytes of all dead letters. When full, the oldest go first."
    )
    payload_max_bytes: int = Field(
        default=GIB,
        ge=MIB,
        description="Bytes of all requests and results that are too large for a message. When full, such a request"
        " is refused, and such a result is kept without its text.",
    )
    payload_max_age_s: Seconds = Field(
        default=14 * 86_400.0,
        description="Seconds that the content of a request that is too large for a message is kept: a week in its"
        " queue and another as a dead letter. A request that waits longer is answered as rejected.",
    )
    consumer_idle_s: Seconds = Field(
        default=3_600.0,
        description="Seconds after which the broker forgets the consumer of a queue that nobody pulls. Its"
        " requests stay; the consumer is made anew when they are wanted.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.payload_max_age_s < max(self.result_max_age_s, self.dead_max_age_s):
            raise ValueError("payload_max_age_s must be at least result_max_age_s and dead_max_age_s")
        return self
