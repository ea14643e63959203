"""Prometheus and its tool, as Debian's package `prometheus` brings them; and what they read."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from deploy.metrics import prometheus_name

from headrace.runtime.metric_names import Instrument, Kind
from tests.ports import free_port

_LIMIT_S = 30.0


def series_names(instrument: Instrument) -> tuple[str, ...]:
    """The names of its series."""
    name = prometheus_name(instrument)
    if instrument.kind is Kind.HISTOGRAM:
        return (f"{name}_bucket", f"{name}_sum", f"{name}_count")
    return (name,)


def tool(name: str) -> str:
    """The path of `promtool` or `prometheus`. Skips the test where it is not there, but in CI, which has to have it."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed; on Debian: apt install prometheus"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def promtool(*arguments: str, told: str = "") -> str:
    """Runs it, with `told` on its standard input; what it says. Fails where it finds fault."""
    done = subprocess.run(
        [tool("promtool"), *arguments], input=told, capture_output=True, text=True, timeout=_LIMIT_S
    )
    assert done.returncode == 0, f"promtool {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout


async def fetch(url: str) -> str:
    """The body of a GET."""

    def get() -> str:
        with urllib.request.urlopen(url, timeout=5) as answer:
            body: bytes = answer.read()
            return body.decode()

    return await asyncio.to_thread(get)


class Prometheus:
    """A real server that scrapes `targets` every second and evaluates `rules`. An async context manager."""

    def __init__(
        self, folder: Path, targets: Sequence[Mapping[str, Any]], rules: Sequence[Path] = ()
    ) -> None:
        """`targets`: as `headrace members --prometheus` gives them."""
        self._folder = folder
        self._port = free_port()
        (folder / "targets.json").write_text(json.dumps(list(targets)))
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {"job_name": "headrace", "file_sd_configs": [{"files": [str(folder / "targets.json")]}]}
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    async def __aenter__(self) -> Self:
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                tool("prometheus"),
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                stdout=log,
                stderr=log,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def api(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        body = json.loads(await fetch(f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}"))
        assert body["status"] == "success", body
        return body["data"]

    async def query(self, expression: str, *, least: int = 1) -> list[tuple[dict[str, str], float]]:
        """Label sets and values of an expression, as soon as there are so many."""
        async with asyncio.timeout(_LIMIT_S):
            while True:
                try:
                    data = await self.api("query", query=expression)
                except OSError:  # it is only starting
                    data = {"result": []}
                if len(data["result"]) >= least:
                    return [(one["metric"], float(one["value"][1])) for one in data["result"]]
                code = self._process.returncode
                assert code is None, (self._folder / "prometheus.log").read_text()[-2000:]
                await asyncio.sleep(0.1)  # a scrape has no event that a test could wait for
