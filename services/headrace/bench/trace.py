"""A recorded load: a CSV file with arrival time, prompt tokens and output tokens of each request."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from headrace.contract.errors import InvalidRequest

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of the trace; `arrival_s` counts from the first one's."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int


def read_trace(
    path: Path, *, scale_time: float = 1.0, scale_prompt: float = 1.0, scale_output: float = 1.0
) -> list[TraceRow]:
    """The rows in the order of arrival, times and lengths divided by their scales, lengths at least 1.

    Raises InvalidRequest, which names the line at fault.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InvalidRequest("trace", f"{path} has no column {', '.join(missing)}")
            rows = [_row(path, reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest("trace", f"{path} cannot be read as CSV ({error})") from error
    if not rows:
        raise InvalidRequest("trace", f"{path} has no rows")
    rows.sort(key=lambda row: row.arrival_s)
    first_s = rows[0].arrival_s
    return [
        TraceRow(
            (row.arrival_s - first_s) / scale_time,
            max(1, round(row.prompt_tokens / scale_prompt)),
            max(1, round(row.output_tokens / scale_output)),
        )
        for row in rows
    ]


def _row(path: Path, line: int, found: dict[str, str]) -> TraceRow:
    try:
        return TraceRow(*(kind(found[name]) for kind, name in zip((float, int, int), COLUMNS, strict=True)))
    except (TypeError, ValueError):
        raise InvalidRequest("trace", f"{path}, line {line}: {', '.join(COLUMNS)} must be numbers") from None
