"""How much a process logs, as operators ask for it; and that to protobuf and back."""

from __future__ import annotations

import enum

from headrace.contract.errors import InvalidRequest
from headrace.v1 import common_pb2 as pb


class LogLevel(enum.Enum):
    """The least weight of a line that is written; the value is the word for it."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    AS_SET = "as-set"
    """What `log.level` of the process says."""


_LEVEL = {
    LogLevel.DEBUG: pb.LOG_LEVEL_DEBUG,
    LogLevel.INFO: pb.LOG_LEVEL_INFO,
    LogLevel.WARNING: pb.LOG_LEVEL_WARNING,
    LogLevel.ERROR: pb.LOG_LEVEL_ERROR,
    LogLevel.AS_SET: pb.LOG_LEVEL_AS_SET,
}
_LEVEL_IN = {number: level for level, number in _LEVEL.items()}


def encode_log_level(level: LogLevel | None) -> pb.LogLevel.ValueType:
    return pb.LOG_LEVEL_UNSPECIFIED if level is None else _LEVEL[level]


def known_log_level(number: pb.LogLevel.ValueType) -> LogLevel | None:
    """None for `unspecified`, and for a number that only a newer version knows."""
    return _LEVEL_IN.get(number)


def decode_log_level(number: pb.LogLevel.ValueType) -> LogLevel:
    """Raises InvalidRequest("level") for `unspecified`, and for a number that is no level."""
    level = known_log_level(number)
    if level is None:
        was = "it is missing" if number == pb.LOG_LEVEL_UNSPECIFIED else f"was number {number}"
        raise InvalidRequest("level", f"must be one of {', '.join(each.value for each in LogLevel)} ({was})")
    return level


def log_level_named(word: str) -> LogLevel:
    """The level of that name. Raises InvalidRequest("level")."""
    try:
        return LogLevel(word)
    except ValueError:
        allowed = ", ".join(each.value for each in LogLevel)
        raise InvalidRequest("level", f"must be one of {allowed} (was {word[:20]!r})") from None
