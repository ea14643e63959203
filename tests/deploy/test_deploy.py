"""What operators start from is true: the files in deploy/ name settings, commands and limits that there are."""

from __future__ import annotations

import configparser
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.runtime.nats_binary import find_nats_server
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_output import ServerOutput
from headrace.runtime.settings import Settings, load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"


def environment() -> dict[str, str]:
    """The variables that the example sets, those that it only shows included."""
    lines = (DEPLOY / "systemd/headrace.env").read_text().splitlines()
    return dict(
        line.removeprefix("#").split("=", 1)
        for line in lines
        if "=" in line and " " not in line.split("=")[0]
    )


def test_the_example_environment_is_accepted() -> None:
    """Every HEADRACE_ variable is a setting, and its value is usable."""
    variables = environment()
    assert sum(name.startswith("HEADRACE_") for name in variables) >= 7
    assert load_settings(environ=variables).worker.router == (
        "router-1.example:7701",
        "router-2.example:7701",
    )


def test_the_units_stop_leaves_time_to_drain() -> None:
    """systemd waits longer than any process drains."""
    settings = Settings()
    drains = (settings.router.drain_grace_s, settings.gateway.drain_grace_s, settings.worker.drain_grace_s)
    assert float(unit()["Service"]["TimeoutStopSec"]) >= max(drains) + 15


@pytest.mark.parametrize("process", ["router", "gateway", "worker"])
def test_the_unit_runs_commands_that_exist(process: str) -> None:
    """`headrace %i` is a command for each instance that the unit is meant for."""
    command = unit()["Service"]["ExecStart"].replace("%i", process).split()
    assert command[0].endswith("/headrace")
    assert CliRunner().invoke(app, [*command[1:], "--help"]).exit_code == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerOutput]:
    """A nats-server on the configuration, with another port and folder."""
    config = tmp_path / "nats-server.conf"
    text = (DEPLOY / "nats/nats-server.conf").read_text()
    config.write_text(text.replace("port: 4222", "port: -1").replace("/var/lib/nats", str(tmp_path)))
    output = ServerOutput("127.0.0.1", 0)
    command = [str(find_nats_server().path), "--addr", "127.0.0.1", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while not output.ready and (line := process.stderr.readline()):
                output.feed(line.rstrip())
            yield output
        finally:
            process.terminate()


@pytest.mark.integration
async def test_the_nats_configuration_serves_headrace(server: ServerOutput) -> None:
    """A server started with it takes all streams and buckets, and the payload that the embedded one takes."""
    settings = load_settings({"nats.url": server.url}, environ={})
    async with connect(settings.nats, "test") as connection:
        await ensure_layout(connection, settings)
        assert connection.max_payload == settings.nats.max_payload_bytes


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd/headrace@.service")
    return parser
