"""What `headrace` says about itself."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app

COMMANDS = (
    *"up demo generate submit attach result cancel models members drain router gateway worker".split(),  # noqa: SIM905
    "calibrate",
    "settings",
    "simulate",
)
HEAVY = ("grpc", "ctranslate2", "numpy", "pydantic", "nats", "tokenizers", "structlog")

runner = CliRunner()


def test_the_version_is_the_packages() -> None:
    """`headrace --version` prints the version that is installed."""
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"headrace {version('headrace')}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command: str) -> None:
    """Each command is listed, and its help ends with examples that begin with `headrace`."""
    assert f" {command} " in runner.invoke(app, ["--help"]).output
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"headrace {command}" in result.output.partition("Examples:")[2]


def test_the_commands_for_models_are_there() -> None:
    """The group whose module is imported late lists its commands and runs them."""
    result = runner.invoke(app, ["model", "--help"])
    assert result.exit_code == 0
    assert all(word in result.output for word in ("pull", "list", "verify"))
    assert runner.invoke(app, ["model", "list", "--help"]).exit_code == 0


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    """`headrace --help` is there at once: the engine, gRPC and the settings are not imported for it."""
    program = f"import sys, headrace.cli.main; print(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_an_unknown_command_is_refused() -> None:
    """A slip of the pen ends with exit code 2."""
    assert runner.invoke(app, ["generat"]).exit_code == 2
