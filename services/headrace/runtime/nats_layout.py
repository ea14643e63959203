"""Declares the streams and buckets that Headrace needs on the broker.

`ensure_layout` may run in any number of processes at once and again at each start: what is there as it should be is
left alone, what is there otherwise is an error, and nothing that exists is ever altered.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import Base, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from headrace.contract.errors import StartError, Unavailable
from headrace.runtime.nats_refusal import (
    JETSTREAM_OFF,
    NO_STORAGE,
    NOT_PLACED,
    STREAM_EXISTS,
    SUBJECTS_OVERLAP,
)
from headrace.runtime.nats_streams import as_new, wanted_streams
from headrace.runtime.nats_version import check_version
from headrace.runtime.settings import Settings

API_TIMEOUT_S = 10.0  # a stream of many files takes a moment; more means that the server is in trouble


class JetStreamMissing(StartError):
    """The server, or our account on it, has no JetStream."""

    def __init__(self) -> None:
        super().__init__(
            "the NATS server has no JetStream for this account, and Headrace keeps its queues there",
            "Start nats-server with JetStream (-js, or jetstream {} in its configuration),"
            " or unset HEADRACE_NATS_URL to use the embedded server",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One setting of a stream that is not as it should be."""

    setting: str
    found: object
    wanted: object

    def __str__(self) -> str:
        return f"{self.setting} is {self.found}, wanted {self.wanted}"


class LayoutConflict(StartError):
    """A stream exists with other settings. `differences` lists all of them; nothing was changed. `exists` is False
    where it is another stream that has its subjects, so that there is none of this name.
    """

    def __init__(self, stream: str, differences: Sequence[Difference], *, exists: bool = True) -> None:
        super().__init__(
            f"the stream {stream} exists with other settings: {'; '.join(map(str, differences))}",
            "Set Headrace's settings (nats.*, queues.*) to what is there, or change the stream"
            f" (nats stream edit {stream}), or delete it if its content can go (nats stream rm {stream})",
        )
        self.stream = stream
        self.differences = tuple(differences)
        self.exists = exists


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The broker with everything declared. `created` names the streams that were new."""

    js: JetStreamContext
    created: tuple[str, ...]


async def ensure_layout(nc: Client, settings: Settings, timeout_s: float = API_TIMEOUT_S) -> Layout:
    """Declares streams and buckets where they are missing. To have them kept so, see `nats_upkeep`.

    Raises NatsTooOld, JetStreamMissing or LayoutConflict where the server cannot serve; StartError where it refuses
    for another reason, such as too little disk; Unavailable where it does not answer, and trying again may help. One
    stream that cannot be declared keeps none of the others from it.
    """
    check_version(server_version(nc))
    js = nc.jetstream(timeout=timeout_s)
    created, faults = [], []
    try:
        await _check_jetstream(js)
        for wanted in wanted_streams(settings):
            try:
                created.append(await _declare(js, wanted))
            except StartError as fault:
                faults.append(fault)
    except APIError as error:
        raise Unavailable("JetStream", error.description or "no answer") from error
    except (TimeoutError, nats.errors.Error) as error:
        raise Unavailable("JetStream", "did not answer in time") from error
    if faults:
        raise faults[0]
    return Layout(js=js, created=tuple(name for name in created if name))


async def _check_jetstream(js: JetStreamContext) -> None:
    try:
        await js.account_info()
    except APIError as error:
        # Without JetStream nobody answers at all, which the library gives as this class without a code.
        nobody = isinstance(error, ServiceUnavailableError) and error.code is None
        if nobody or error.err_code in JETSTREAM_OFF:
            raise JetStreamMissing from error
        raise


async def _declare(js: JetStreamContext, wanted: StreamConfig) -> str:
    """The stream's name if it was created, else "". Creating is atomic at the server, so processes may race."""
    name = wanted.name or ""
    existing = await _existing(js, name)
    if existing is None:
        try:
            await js.add_stream(as_new(wanted, time.time()))
        except APIError as error:
            # Somebody may have been faster, with other settings or with the last bytes that are free.
            existing = await _existing(js, name)
            if existing is None:
                raise _refused(wanted, error) from error
        else:
            return name
    differences = compare(existing, wanted)
    if differences:
        raise LayoutConflict(name, differences)
    return ""


async def _existing(js: JetStreamContext, name: str) -> StreamConfig | None:
    try:
        return (await js.stream_info(name)).config
    except NotFoundError:
        return None


def _refused(wanted: StreamConfig, error: APIError) -> Exception:
    name = wanted.name or ""
    if error.err_code == SUBJECTS_OVERLAP:
        there = "subjects that another stream takes already"
        difference = Difference(setting="subjects", found=there, wanted=wanted.subjects)
        return LayoutConflict(name, [difference], exists=False)
    if error.err_code in NO_STORAGE:
        return StartError(
            f"the NATS server has too little storage for the stream {name} ({wanted.max_bytes} bytes)",
            "Free disk space, raise the server's max_file_store, or lower queues.max_bytes, queues.result_max_bytes,"
            " queues.dead_max_bytes or queues.payload_max_bytes",
        )
    if error.code == 503 or error.err_code in NOT_PLACED:
        return Unavailable("JetStream", error.description or "not available")
    if error.err_code == STREAM_EXISTS:
        return Unavailable("JetStream", f"the stream {name} is being made by another process")
    return StartError(f"the NATS server refuses the stream {name}: {error.description}")


def compare(found: StreamConfig, wanted: StreamConfig) -> list[Difference]:
    """Every setting of `wanted` that `found` does not have; what `wanted` leaves open (None) may be anything."""
    differences = []
    for field in fields(wanted):
        want = getattr(wanted, field.name)
        have = getattr(found, field.name)
        if want is None and field.name != "max_age":
            continue
        if _plain(have) != _plain(want):
            differences.append(Difference(setting=field.name, found=_plain(have), wanted=_plain(want)))
    return differences


def _plain(value: Any) -> object:
    """A form that compares: the server leaves out what is false, zero or empty."""
    if isinstance(value, Base):
        return {key: part for key, part in value.as_dict().items() if part}
    if isinstance(value, list):
        return sorted(map(str, value))
    return getattr(value, "value", value) or None


def server_version(nc: Client) -> str:
    """The connected server's version, such as `2.11.4`; "" where it gave none that can be read."""
    version = nc.connected_server_version
    try:
        return f"{version.major}.{version.minor}.{version.patch}"
    except ValueError:
        return ""
