"""Dead letters as a person and as other programs see them: without the body, unless it is asked for."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.cli.stream_view import harmless
from headrace.contract.errors import MalformedMessage
from headrace.contract.queue_wire import request_json
from headrace.contract.subjects import HEADER_CONTENT_TYPE
from headrace.dead.letter import Letter

_PIPE_WIDTH = 200
"""Where no terminal says how wide it is: enough for a letter a line or two."""


def letter_fields(letter: Letter) -> dict[str, Any]:
    """What can be said of a letter without its headers and its body."""
    dead = letter.dead
    return {
        "letter": letter.number,
        "time": datetime.fromtimestamp(dead.time_s, UTC).isoformat(timespec="milliseconds"),
        "request_id": dead.request_id,
        "subject": dead.subject,
        "code": dead.failure.code,
        "attempts": dead.attempts,
        "message": dead.failure.message,
    }


def whole_fields(letter: Letter, refusal: str, *, content: bool) -> dict[str, Any]:
    """All of a letter. `refusal`: why it cannot be replayed. The body only where `content` asks for it."""
    dead = letter.dead
    fields = {
        **letter_fields(letter),
        "trace_id": letter.trace_id,
        "headers": dict(dead.headers),
        "body_bytes": len(dead.body),
        "replay": f"no: {refusal}" if refusal else "possible",
    }
    return {**fields, **_content(letter)} if content else fields


def _content(letter: Letter) -> dict[str, Any]:
    """The body under the name of what it is: a request, else text, else bytes."""
    body, content_type = letter.dead.body, letter.dead.headers.get(HEADER_CONTENT_TYPE, "")
    try:
        return {"request": json.loads(request_json(body, content_type))}
    except MalformedMessage:
        try:
            return {"text": body.decode()}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(body).decode()}


def json_line(fields: dict[str, Any]) -> str:
    """One line."""
    return json.dumps(fields, ensure_ascii=False)


def print_table(letters: Sequence[Letter]) -> None:
    """The letters, two lines each."""
    table = Table("letter", "given up", "request", "tried", "error", box=box.SIMPLE, pad_edge=False)
    for column in table.columns[:4]:
        column.no_wrap = True
    table.columns[4].overflow = "fold"
    for letter in letters:
        dead = letter.dead
        table.add_row(
            str(letter.number),
            _local(dead.time_s),
            Text.assemble((_shown(dead.request_id) or "no id", "bold"), f"\n{_shown(dead.subject)}"),
            f"{dead.attempts}×",
            Text.assemble((_shown(dead.failure.code), "red"), f"\n{_shown(dead.failure.message)}"),
        )
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(table)


def print_letter(fields: dict[str, Any]) -> None:
    """What `whole_fields` gives, a field a line."""
    console = Console(highlight=False)
    content = {name: fields.pop(name) for name in ("request", "text", "base64") if name in fields}
    headers = fields.pop("headers")
    for name, value in fields.items():
        _line(console, name.replace("_", " "), value if value != "" else "none")
    for name, value in headers.items():
        _line(console, "header", f"{name}: {value}")
    for name, value in content.items():
        _line(console, name, "")
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        console.print(_shown(text), markup=False, soft_wrap=True)


def _line(console: Console, name: str, value: object) -> None:
    console.print(Text.assemble((f"{name:12}", "bold"), _shown(str(value))), soft_wrap=True)


def _shown(text: str) -> str:
    """What producers wrote must not steer the terminal."""
    return harmless(text, sys.stdout)


def _local(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s).strftime("%Y-%m-%d %H:%M:%S")


def counted(number: int) -> str:
    """`1 letter`, `7 letters`."""
    return f"{number} letter" if number == 1 else f"{number} letters"
