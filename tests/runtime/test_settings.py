"""Settings: which source wins, and that every fault is told at once, in the words of its source."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from headrace.contract.errors import HeadraceError
from headrace.runtime.settings import Settings, SettingsError, describe, load_settings


def load(
    overrides: dict[str, object] | None = None,
    env: dict[str, str] | None = None,
    toml: str | None = None,
    folder: Path | None = None,
) -> Settings:
    config = None
    if toml is not None:
        assert folder is not None
        config = folder / "settings.toml"
        config.write_text(toml)
    return load_settings(overrides, config=config, environ=env or {})


def faults(*args: object, **kwargs: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(*args, **kwargs)  # type: ignore[arg-type]
    return [str(fault) for fault in caught.value.faults]


def test_defaults() -> None:
    """Without any source the documented defaults hold."""
    settings = load()
    assert settings.nats.url is None
    assert settings.nats.servers == ["nats://127.0.0.1:4222"]
    assert (settings.gateway.port, settings.router.port) == (7700, 7701)
    assert settings.worker.router == ("127.0.0.1:7701",)
    assert settings.limits.max_tokens_default == 256
    assert settings.models.name == "models"
    assert settings.models.parent.name == "headrace"


def test_precedence(tmp_path: Path) -> None:
    """A flag beats the environment, which beats the file, which beats the default."""
    toml = "[router]\nport = 1\nlookahead = 1\nmax_held = 1\n"
    env = {"HEADRACE_ROUTER_PORT": "2", "HEADRACE_ROUTER_LOOKAHEAD": "2"}
    router = load({"router.port": 3, "router.max_held": None}, env, toml, tmp_path).router
    assert (router.port, router.lookahead, router.max_held) == (3, 2, 1)
    assert router.max_attempts == 5


def test_environment_names() -> None:
    """The first underscore after the prefix parts section and key; the model store has no section."""
    settings = load(
        env={
            "HEADRACE_MODELS": "/models",
            "HEADRACE_ROUTER_ACK_WAIT_S": "7.5",
            "HEADRACE_WORKER_MODELS": "a, b",
            "HEADRACE_WORKER_LABELS": "zone=x,disk=ssd",
            "HEADRACE_NATS_URL": "nats://a:1,nats://b:2",
            "HEADRACE_NATS_TOKEN": "",
            "OTHER": "1",
        }
    )
    assert settings.models == Path("/models")
    assert settings.router.ack_wait_s == 7.5
    assert settings.worker.models == ("a", "b")
    assert settings.worker.labels == {"zone": "x", "disk": "ssd"}
    assert settings.nats.servers == ["nats://a:1", "nats://b:2"]
    assert settings.nats.token is None, "an empty variable means the same as none"


def test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is found by HEADRACE_CONFIG, else as ./headrace.toml; lists and tables are written as TOML has them."""
    text = 'models = "~/m"\n[worker]\nmodels = ["a"]\nlabels = { zone = "x" }\n'
    (tmp_path / "headrace.toml").write_text(text)
    other = tmp_path / "other.toml"
    other.write_text("[router]\nport = 5\n")
    monkeypatch.chdir(tmp_path)
    here = load()
    assert here.models == Path.home() / "m"
    assert here.worker.models == ("a",)
    assert here.worker.labels == {"zone": "x"}
    named = load(env={"HEADRACE_CONFIG": str(other)})
    assert (named.router.port, named.worker.models) == (5, ())


def test_every_fault_at_once(tmp_path: Path) -> None:
    """All sources' faults come in one error, each in its source's form, with what is wrong and what is allowed."""
    told = faults(
        {"log.level": "loud", "router.prot": 1},
        {"HEADRACE_ROUTER_PROT": "1", "HEADRACE_QUEUES_MAX_AGE_S": "-1"},
        "colour = 1\nlog = 3\n[router]\nport = 'x'\n[gateway]\nprot = 1\nport = 70000\n",
        tmp_path,
    )
    text = "\n".join(told)
    assert len(told) == 9, text
    file = tmp_path / "settings.toml"
    assert f"colour in {file}: is no setting" in text
    assert f"log in {file}: must be a table, [log]" in text
    assert f"gateway.prot in {file}: is no setting; did you mean gateway.port?" in text
    assert "HEADRACE_ROUTER_PROT: is no setting; did you mean HEADRACE_ROUTER_PORT?" in text
    assert "router.prot (flag): is no setting; did you mean router.port?" in text
    assert f"router.port in {file}: 'x' is not usable" in text
    assert f"gateway.port in {file}: 70000 is not usable" in text
    assert "allowed: whole number from 0 to 65535 (default 7700)" in text
    assert "HEADRACE_QUEUES_MAX_AGE_S: '-1' is not usable" in text
    assert "log.level (flag): 'loud' is not usable" in text
    assert "allowed: one of debug, info, warning, error (default info)" in text


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"HEADRACE_NATS_RECONNECT_WAIT_S": "9"}, "reconnect_max_wait_s must be at least reconnect_wait_s"),
        ({"HEADRACE_NATS_PASSWORD": "x"}, "password needs user"),
        ({"HEADRACE_NATS_MAX_PAYLOAD_BYTES": str(2**26)}, "pending_bytes must be at least max_payload_bytes"),
        ({"HEADRACE_WORKER_REJOIN_WAIT_S": "9"}, "rejoin_max_wait_s must be at least rejoin_wait_s"),
        ({"HEADRACE_WORKER_DEVICE": "gpu"}, "'gpu' is not usable"),
        ({"HEADRACE_WORKER_LABELS": "zone"}, "must be written as key=value"),
        ({"HEADRACE_ROUTER_ACK_WAIT_S": "nan"}, "finite number"),
        ({"HEADRACE_NATS_URL": "http://x"}, "must be nats://HOST:PORT"),
        ({"HEADRACE_NATS_URL": "nats://x:99999"}, "has a port that is not a number"),
        ({"HEADRACE_CONFIG": "/no/such/file.toml"}, "/no/such/file.toml: there is no such file"),
        ({"HEADRACE_NATS": "x"}, "HEADRACE_NATS: is no setting"),
    ],
)
def test_bad_values(env: dict[str, str], problem: str) -> None:
    """A value that cannot work, alone or beside another, is refused with the reason and its variable."""
    (told,) = faults(env=env)
    assert problem in told
    (name,) = env
    assert name in told or name == "HEADRACE_CONFIG"


def test_broken_file(tmp_path: Path) -> None:
    """A file that is no TOML is one fault that names the file and the line; the other faults are still told."""
    told = faults({"router.port": "x"}, {}, "[router\nport = 1\n", tmp_path)
    assert len(told) == 2
    assert "settings.toml: cannot be read as TOML" in told[0]
    assert "line 1" in told[0]
    assert "router.port (flag)" in told[1]


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Neither a fault nor the settings' repr holds a password, a token, or a URL that may hold one."""
    told = faults(
        {"nats.token": 31337},
        {"HEADRACE_NATS_URL": "htp://me:hunter2@host"},
        "[nats]\npassword = ['hunter2']\npasword = 'hunter2'\n",
        tmp_path,
    )
    assert len(told) == 4
    assert not any("hunter2" in fault or "31337" in fault for fault in told)
    env = {"HEADRACE_NATS_URL": "nats://me:hunter2@host:4", "HEADRACE_NATS_TOKEN": "hunter2"}
    settings = load(env=env)
    assert "hunter2" not in repr(settings)
    assert settings.nats.shown == "nats://host:4"


def test_frozen() -> None:
    """Nothing writes to the settings after the start."""
    settings = load()
    with pytest.raises(ValidationError):
        settings.router.port = 1


def test_error_tree() -> None:
    """SettingsError is in the one error tree and reads as one line per fault."""
    with pytest.raises(HeadraceError) as caught:
        load({"router.port": -1, "gateway.port": -1})
    lines = str(caught.value).splitlines()
    assert lines[0] == "the settings have 2 faults:"
    assert len(lines) == 3


def test_every_setting_is_described() -> None:
    """`describe` names each setting with a unique variable that `load_settings` reads, a default and a description."""
    docs = list(describe())
    assert len({doc.env for doc in docs}) == len(docs)
    for doc in docs:
        assert doc.description, doc.key
        assert doc.default, doc.key
    by_key = {doc.key: doc for doc in docs}
    assert by_key["router.ack_wait_s"].env == "HEADRACE_ROUTER_ACK_WAIT_S"
    assert by_key["models"].env == "HEADRACE_MODELS"
    assert by_key["nats.password"].secret
    assert by_key["nats.url"].secret
    assert not by_key["nats.port"].secret
    assert by_key["worker.name"].default == "HOST-PID"


def test_described_environment_is_understood() -> None:
    """Every default that `describe` shows can be set again through the variable that it names."""
    env = {doc.env: doc.default for doc in describe() if doc.default not in ("none", "empty", "HOST-PID")}
    assert load(env=env).router == load().router
