"""The log of what the core was told and what it decided: with it a decision can be looked at again.

A line of JSON each: the policy's settings first, then every event with its time and the commands that it was answered
with. No content: tokens are counted, and their ids and text left out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import structlog
from pydantic import ConfigDict, TypeAdapter

from headrace.contract.errors import StartError
from headrace.contract.values import TokenChunk
from headrace.router.core import commands as cmd
from headrace.router.core import events as ev
from headrace.router.core.scheduler import Scheduler
from headrace.router.core.settings import SchedulerSettings

log = structlog.get_logger(__name__)


class Recorder:
    """Writes such a log. A context manager; when the log has `max_bytes`, or cannot be written, it ends with a warning
    and nothing else suffers.
    """

    def __init__(self, path: Path, settings: SchedulerSettings, *, max_bytes: int) -> None:
        """Raises StartError where the file cannot be made."""
        self._path = path
        self._left = max_bytes
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise StartError(
                f"router.event_log: {path} cannot be written: {error.strerror}", "Choose another file"
            ) from error
        self._write({"settings": _dump(settings)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, event: ev.Event, now: float, commands: Sequence[cmd.Command]) -> None:
        """The core was told `event` at `now`, and answered."""
        if self._left > 0:
            self._write(
                {
                    "at": now,
                    "event": _tagged(event),
                    "commands": [_tagged(command) for command in commands],
                }
            )

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":")) + "\n"
        self._left -= len(text)
        try:
            self._file.write(text)
            if self._left <= 0:
                self._file.flush()
                log.warning("event_log.full", path=str(self._path), setting="router.event_log_max_bytes")
        except OSError as error:
            self._left = 0
            log.warning("event_log.broken", path=str(self._path), problem=error.strerror)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """An event that a scheduler answers otherwise than the one whose log it is."""

    line: int
    event: ev.Event
    recorded: list[dict[str, Any]]
    now: list[dict[str, Any]]


def replay(path: Path) -> Iterator[Differing | int]:
    """Tells a new scheduler what a log says, line by line: the line's number where it decides as recorded, and what
    differs where it does not. Raises ValueError where it is no such log.
    """
    with path.open(encoding="utf-8") as lines:
        head = json.loads(next(lines))
        scheduler = Scheduler(_adapter(SchedulerSettings).validate_python(head["settings"]))
        for number, text in enumerate(lines, 2):
            line = json.loads(text)
            ((name, fields),) = line["event"].items()
            event = _adapter(getattr(ev, name)).validate_python(fields)
            answer = [_tagged(command) for command in scheduler.handle(event, line["at"])]
            # Through JSON, as the recorded ones went.
            now = json.loads(json.dumps(answer))
            if now == line["commands"]:
                yield number
            else:
                yield Differing(line=number, event=event, recorded=line["commands"], now=now)


def _tagged(value: Any) -> dict[str, Any]:
    if isinstance(value, ev.Progressed | cmd.Deliver):
        value = dataclasses.replace(value, tokens=_blank(value.tokens))
    if isinstance(value, ev.EntryCompleted | cmd.Settle):
        value = dataclasses.replace(value, vectors=(b"",) * len(value.vectors))
    return {type(value).__name__: _dump(value)}


def _blank(chunk: TokenChunk) -> TokenChunk:
    return TokenChunk(first_index=chunk.first_index, token_ids=(0,) * len(chunk.token_ids), text="")


def _dump(value: Any) -> Any:
    kind: Any = type(value)
    return _adapter(kind).dump_python(value, mode="json")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    kind.__pydantic_config__ = ConfigDict(ser_json_inf_nan="constants")
    return TypeAdapter(kind)
