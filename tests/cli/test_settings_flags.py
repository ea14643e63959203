"""Settings as the command line takes and shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.cli.options import gather_overrides, read_settings
from headrace.runtime.settings import describe

runner = CliRunner()


@pytest.mark.parametrize("command", ["router", "gateway", "worker", "up"])
def test_every_fault_is_listed_at_once(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong flag, an unknown key and a wrong variable are all named in one go; exit code 2."""
    monkeypatch.setenv("HEADRACE_ROUTER_ACK_WAIT_S", "soon")
    result = runner.invoke(app, [command, "--set", "nats.prot=1", "--set", "gateway.port=x"])
    assert result.exit_code == 2
    for word in (
        "3 faults",
        "HEADRACE_ROUTER_ACK_WAIT_S",
        "nats.prot",
        "did you mean nats.port",
        "gateway.port",
    ):
        assert word in result.output


def test_a_set_without_a_value_is_refused() -> None:
    """`--set` wants KEY=VALUE, and says so."""
    result = runner.invoke(app, ["router", "--set", "router.port"])
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.output


def test_flags_win_over_set_over_environment_over_file(tmp_path: Path) -> None:
    """The nearer to the person's fingers, the stronger."""
    file = tmp_path / "headrace.toml"
    file.write_text('[router]\nport = 1\nhost = "a"\nlookahead = 4\nmax_queues = 7\n')
    environ = {"HEADRACE_ROUTER_PORT": "2", "HEADRACE_ROUTER_HOST": "b", "HEADRACE_ROUTER_LOOKAHEAD": "5"}
    overrides = gather_overrides(["router.port=3", "router.host=c"], {"router.port": 4, "nats.url": None})
    router = read_settings(file, overrides, environ).router
    assert (router.port, router.host, router.lookahead, router.max_queues) == (4, "c", 5, 7)


def test_settings_lists_everything_that_can_be_set() -> None:
    """Each key with its variable, in the table and as JSON."""
    table = runner.invoke(app, ["settings"]).output
    documents = json.loads(runner.invoke(app, ["settings", "--json"]).output)
    for doc in describe():
        assert doc.key in table
        assert doc.env in table
    assert [document["key"] for document in documents] == [doc.key for doc in describe()]
    assert all(document["description"] for document in documents)


def test_settings_of_one_section() -> None:
    """A prefix narrows the list; one that fits nothing is refused."""
    documents = json.loads(runner.invoke(app, ["settings", "gateway", "--json"]).output)
    assert documents
    assert all(document["key"].startswith("gateway.") for document in documents)
    assert runner.invoke(app, ["settings", "nonsense"]).exit_code == 2
