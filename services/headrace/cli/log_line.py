"""A JSON log line, as a person reads it in a stream of several processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from rich.text import Text

# Said by the name before the line, or of use to machines alone.
_LEFT_OUT = frozenset(
    {"process", "instance", "logger", "level", "timestamp", "event", "exception", "span_id"}
)
_STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}


def rendered(line: str) -> Iterator[Text]:
    """The line, shorter and without braces; a traceback follows in lines of its own. Other text is left as it is."""
    fields = _parse(line)
    if fields is None:
        yield Text(line)
        return
    level = str(fields.get("level", ""))
    text = Text.assemble(
        (_clock(fields.get("timestamp")), "dim"),
        (f"{level} " if level in _STYLES else "", _STYLES.get(level, "")),
        (str(fields["event"]), _STYLES.get(level, "")),
    )
    for key, value in fields.items():
        if key not in _LEFT_OUT and value is not None:
            text.append(f"  {key}=", "dim")
            text.append(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    yield text
    for more in str(fields.get("exception", "")).splitlines():
        yield Text(more, style="dim")


def _parse(line: str) -> dict[str, object] | None:
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "event" in fields else None


def _clock(timestamp: object) -> str:
    """The time of day here, to the millisecond."""
    try:
        moment = datetime.fromisoformat(str(timestamp)).astimezone()
    except ValueError:
        return ""
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d} "
