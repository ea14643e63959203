"""The core is pure: it can be run anywhere, by anything that has a clock."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import headrace.router.core

FILES = sorted(Path(headrace.router.core.__path__[0]).glob("*.py"))
ALLOWED = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "heapq",
    "itertools",
    "math",
    "typing",
    "zlib",
}
IMPURE = ["asyncio", "threading", "socket", "logging", "random", "grpc", "nats", "opentelemetry", "structlog"]
IMPURE += ["ctranslate2", "google.protobuf", "headrace.v1", "headrace.runtime", "pydantic_settings"]

SCRIPT = """
import sys
before = set(sys.modules)
import {modules}
print(*sorted(set(sys.modules) - before), sep="\\n")
"""


def test_importing_the_core_imports_no_shell() -> None:
    """No event loop, network, log, wire or engine; directly or by what it imports."""
    names = ["headrace.router.core." + path.stem for path in FILES if path.stem != "__init__"]
    script = SCRIPT.format(modules=", ".join(names))
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    loaded = run.stdout.split()
    assert "headrace.router.core.scheduler" in loaded
    assert [
        name for name in loaded if name in IMPURE or name.startswith(tuple(f"{i}." for i in IMPURE))
    ] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_the_core_imports_values_and_data_structures_only(path: Path) -> None:
    """No clock and no source of randomness either: `now` is an argument."""
    imported = {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    ours = {name for name in imported if name.startswith(("headrace.router.core", "headrace.contract."))}
    assert {name.partition(".")[0] for name in imported - ours} <= ALLOWED
