"""`headrace model alias`, `canary`, `promote`, `rollback`, `shadow` and `static` on a mesh of real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import Running, run

pytestmark = pytest.mark.integration


def model(mesh: Running, *arguments: str) -> str:
    """What the command prints; fails where it does."""
    done = run("model", *arguments, "--address", mesh.gateway)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_alias_is_set_asked_for_listed_and_removed(mesh: Running) -> None:
    """As a person does it, and for programs."""
    assert model(mesh, "alias", "set", "chat", "fake").startswith("chat → fake")
    asked = run("generate", "--address", mesh.gateway, "--model", "chat", "--json", "--max-tokens", "3", "hi")
    first, *_, last = map(json.loads, asked.stdout.splitlines())
    assert (first["model"], last["model"], last["earlier_models"]) == ("fake", "fake", [])
    (listed,) = json.loads(model(mesh, "alias", "list", "--json"))
    assert (listed["name"], listed["stable"], listed["fallbacks"]) == ("chat", "fake", [])
    assert [(one["model"], one["answered"], one["failed"]) for one in listed["versions"]] == [("fake", 1, 0)]
    table = model(mesh, "alias", "list")
    assert "chat → fake" in table
    assert "1 " in table.splitlines()[-1] or "fake" in table
    assert model(mesh, "shadow", "chat", "fake", "--percent", "50").count("shadow fake 50 %")
    assert model(mesh, "alias", "remove", "chat").startswith("Removed: chat → fake")
    assert json.loads(model(mesh, "alias", "list", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("alias", "set", "chat", "nonesuch"), 2, "unknown model 'nonesuch'; available: fake"),
        (("alias", "set", "a.b", "fake"), 2, "name: must be 1 to 64 letters"),
        (("alias", "remove", "nobody"), 1, "no alias 'nobody'"),
        (("canary", "nobody", "fake"), 1, "no alias 'nobody'"),
        (("promote", "nobody"), 1, "no alias 'nobody'"),
        (("rollback", "nobody"), 1, "no alias 'nobody'"),
        (("static", "set", "nonesuch", __file__), 2, "unknown model 'nonesuch'"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    mesh: Running, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """With the field or the name at fault; exit code 2 where what was asked for is wrong, else 1."""
    done = run("model", *arguments, "--address", mesh.gateway)
    assert done.returncode == code
    assert said in done.stderr


def test_static_prompts_come_from_files(mesh: Running, tmp_path: Path) -> None:
    """Their texts are shown to programs alone."""
    file = tmp_path / "system.txt"
    file.write_text("You speak of mills and rivers.")
    assert model(mesh, "static", "set", "fake", str(file)) == "fake: 1 static prompts\n"
    listed = model(mesh, "static", "list")
    assert "fake: 30 bytes" in listed
    assert "mills" not in listed
    assert json.loads(model(mesh, "static", "list", "--json"))["models"] == [
        {"model": "fake", "prompts": ["You speak of mills and rivers."]}
    ]
    assert model(mesh, "static", "set", "fake") == "fake: 0 static prompts\n"
