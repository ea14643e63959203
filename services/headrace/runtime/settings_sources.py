"""Where settings come from, and which source wins: flags over environment over file. Defaults stand in the sections.

All sources are brought to one form, dotted keys (`router.port`), and each value remembers where it came from, so
that a fault can be named in the words that the person used.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.runtime.settings_docs import ENV_PREFIX, SettingDoc
from headrace.runtime.settings_faults import Fault

CONFIG_ENV = "HEADRACE_CONFIG"
DEFAULT_CONFIG = Path("headrace.toml")

# Read elsewhere, and therefore no fault here: the file of the settings, and where `model pull` finds PyPI.
FOREIGN_ENV = frozenset({CONFIG_ENV, "HEADRACE_PYPI_INDEX"})


@dataclass(slots=True)
class Gathered:
    """The values by key, where each came from, and what could not be understood. Written by the sources below."""

    values: dict[str, object] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def take(self, key: str, value: object, origin: str) -> None:
        """A later call for the same key wins."""
        self.values[key] = value
        self.origins[key] = origin


def gather(
    docs: Iterable[SettingDoc],
    *,
    overrides: Mapping[str, object] | None,
    environ: Mapping[str, str],
    config: Path | None,
) -> Gathered:
    """Everything that the sources say, the strongest last. Reads the TOML file; never raises for what is in it."""
    known = {doc.key: doc for doc in docs}
    found = Gathered()
    _read_file(found, known, environ, config)
    _read_environment(found, known, environ)
    _read_overrides(found, known, overrides or {})
    return found


def _read_file(
    found: Gathered, known: Mapping[str, SettingDoc], environ: Mapping[str, str], config: Path | None
) -> None:
    named = config or (Path(environ[CONFIG_ENV]) if environ.get(CONFIG_ENV) else None)
    path = (named or DEFAULT_CONFIG).expanduser()
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        # The file is optional, unless somebody named it.
        if named is not None:
            found.faults.append(Fault(source=str(path), problem="there is no such file"))
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # A TOML error names line and column and quotes no value.
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        found.faults.append(Fault(source=str(path), problem=f"cannot be read as TOML: {problem}"))
        return
    _take_table(found, known, table, "", path)


def _take_table(
    found: Gathered, known: Mapping[str, SettingDoc], table: Mapping[str, object], prefix: str, path: Path
) -> None:
    sections = {key.partition(".")[0] for key in known if "." in key}
    for name, value in table.items():
        key = prefix + name
        origin = f"{key} in {path}"
        if key in known:
            found.take(key, value, origin)
        elif not prefix and name in sections:
            if isinstance(value, dict):
                _take_table(found, known, value, f"{name}.", path)
            else:
                found.faults.append(Fault(source=origin, problem=f"must be a table, [{name}]"))
        else:
            found.faults.append(_unknown(origin, key, known))


def _read_environment(found: Gathered, known: Mapping[str, SettingDoc], environ: Mapping[str, str]) -> None:
    by_env = {doc.env: doc.key for doc in known.values()}
    for name, value in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX) or name in FOREIGN_ENV:
            continue
        if name not in by_env:
            found.faults.append(_unknown(name, name, by_env))
        elif value:  # An empty variable means the same as none: compose files set it so.
            found.take(by_env[name], value, name)


def _read_overrides(
    found: Gathered, known: Mapping[str, SettingDoc], overrides: Mapping[str, object]
) -> None:
    for key, value in overrides.items():
        if key not in known:
            found.faults.append(_unknown(f"{key} (flag)", key, known))
        elif value is not None:  # A flag that was not given.
            found.take(key, value, f"{key} (flag)")


def _unknown(source: str, name: str, known: Iterable[str]) -> Fault:
    near = difflib.get_close_matches(name, known, n=1)
    return Fault(source=source, problem="is no setting" + (f"; did you mean {near[0]}?" if near else ""))
