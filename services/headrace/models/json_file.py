"""JSON files that others made: whatever is wrong with one is a ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load_json(path: Path) -> Any:
    """What the file holds. Raises OSError, and ValueError as `parse_json`."""
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """What `text` says. Raises ValueError for what is no JSON, is nested too deeply, or has half a character, which
    could not be written again.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if "\\u" in text:
        json.dumps(found, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return found
