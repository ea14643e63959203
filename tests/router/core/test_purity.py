"""The core is pure: it can be run anywhere, by anything that has a clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import headrace.router.core

IMPURE = ["asyncio", "threading", "socket", "logging", "time", "random", "grpc", "nats", "opentelemetry"]
IMPURE += [
    "ctranslate2",
    "structlog",
    "google.protobuf",
    "headrace.v1",
    "headrace.runtime",
    "pydantic_settings",
]

SCRIPT = """
import sys
before = set(sys.modules)
import {modules}
print(*sorted(set(sys.modules) - before), sep="\\n")
"""


def test_importing_the_core_imports_no_shell() -> None:
    """No event loop, clock, network, log, wire or engine; directly or by what it imports."""
    package = Path(headrace.router.core.__path__[0])
    modules = ", ".join(f"headrace.router.core.{path.stem}" for path in sorted(package.glob("*.py")))
    assert "scheduler" in modules
    script = SCRIPT.format(modules=modules.replace(".__init__", ""))
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    loaded = run.stdout.split()
    assert "headrace.router.core.scheduler" in loaded
    assert [
        name for name in loaded if name in IMPURE or name.startswith(tuple(f"{i}." for i in IMPURE))
    ] == []
