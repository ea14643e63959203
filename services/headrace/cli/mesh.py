"""A whole mesh on one machine: which processes it consists of, and how each is started."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.cli.addresses import check_free, dialled, free_ports
from headrace.cli.child import ChildSpec
from headrace.contract.errors import StartError
from headrace.runtime.child_process import tied_to_parent
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import (
    ConsoleSettings,
    GatewaySettings,
    RouterSettings,
    Settings,
    WorkerSettings,
    load_settings,
)
from headrace.runtime.settings_docs import env_name
from headrace.runtime.settings_sources import CONFIG_ENV

Hears = Callable[[str, str], None]
"""Takes a child's name and one line of its output."""

_OVER_GRACE_S = 15.0
"""Beyond a child's own drain: to hand back what it holds, unload its models and flush its telemetry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Everything that is needed to start the children. `nats` is None where a server is there already."""

    settings: Settings
    workers: int
    lanes_each: int
    environ: Mapping[str, str] = field(repr=False)  # may hold passwords
    nats: EmbeddedNats | None
    nats_argv: tuple[str, ...]
    console: bool = False
    """Whether the console runs, too."""

    @property
    def gateway(self) -> str:
        """Where clients dial."""
        return dialled(self.settings.gateway.host, self.settings.gateway.port)

    @property
    def router(self) -> str:
        """Where the workers dial."""
        return dialled(self.settings.router.host, self.settings.router.port)

    @property
    def console_url(self) -> str:
        """Where browsers look; empty without a console."""
        own = self.settings.console
        return f"http://{dialled(own.host, own.port)}/" if self.console else ""

    @property
    def nats_shown(self) -> str:
        """Where the broker is, without any password."""
        return self.nats.url if self.nats else self.settings.nats.shown

    @property
    def names(self) -> list[str]:
        """Of all children, in the order of the way of a request."""
        console = ["console"] if self.console else []
        return [*(["nats"] if self.nats else []), "router", "gateway", *self.worker_names, *console]

    @property
    def stop_order(self) -> list[str]:
        """Who takes new work stops first; whom the others need to finish theirs stops last."""
        return ["gateway", "router", *self.worker_names, "console", "nats"]

    @property
    def worker_names(self) -> list[str]:
        return ["worker"] if self.workers == 1 else [f"worker-{n}" for n in range(1, self.workers + 1)]

    def nats_spec(self, hears: Callable[[str], None]) -> ChildSpec:
        """The embedded server; its lines go to `hears` alone, as it writes many that matter to nobody."""
        return ChildSpec(
            name="nats",
            argv=self.nats_argv,
            environ=self.environ,
            stop_grace_s=self.settings.nats.stop_grace_s,
            hears=hears,
        )

    def router_spec(self, hears: Hears) -> ChildSpec:
        """The router."""
        return self._spec("router", "router", self.settings.router.drain_grace_s, hears, {})

    def gateway_spec(self, hears: Hears) -> ChildSpec:
        """The gateway."""
        return self._spec("gateway", "gateway", self.settings.gateway.drain_grace_s, hears, {})

    def console_spec(self, hears: Hears) -> ChildSpec:
        """The console."""
        return self._spec("console", "console", 0.0, hears, {})

    def worker_specs(self, hears: Hears) -> Iterator[ChildSpec]:
        """The workers."""
        grace_s = self.settings.worker.drain_grace_s
        for name in self.worker_names:
            yield self._spec(name, "worker", grace_s, hears, self._worker_environ(name))

    def _spec(
        self, name: str, command: str, drain_s: float, hears: Hears, environ: Mapping[str, str]
    ) -> ChildSpec:
        return ChildSpec(
            name=name,
            argv=tuple(tied_to_parent([sys.executable, "-m", "headrace.cli", command])),
            environ={**self.environ, **self._metrics_environ(name), **environ},
            stop_grace_s=drain_s + _OVER_GRACE_S,
            hears=lambda line: hears(name, line),
        )

    def _metrics_environ(self, name: str) -> Mapping[str, str]:
        """A port of its own for each process: counted on from the one that is set, in the order of the names."""
        first = self.settings.metrics.port
        if not first:
            return {}
        place = [other for other in self.names if other != "nats"].index(name)
        return {env_name("metrics.port"): str(first + place)}

    def _worker_environ(self, name: str) -> Mapping[str, str]:
        own = self.settings.worker
        environ = {env_name("worker.router"): self.router}
        if self.workers > 1:
            environ[env_name("worker.lanes")] = str(self.lanes_each)
            if "name" in own.model_fields_set:  # one name cannot do for all
                environ[env_name("worker.name")] = f"{own.name}-{name.rpartition('-')[2]}"
        return environ


def plan_mesh(
    overrides: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    config: Path | None = None,
    workers: int = 1,
    console: bool = False,
) -> Mesh:
    """Settles ports and settings, and checks that all can start; nothing runs yet.

    Raises SettingsError, or an ExceptionGroup of StartError with everything that stands in the way. The embedded
    server's folder is held from here on: `mesh.nats.release()` gives it free.
    """
    settings = load_settings(overrides, config=config, environ=environ)
    embedded = settings.nats.url is None
    overrides = {**overrides, **_ports(settings, embedded, console=console)}
    settings = load_settings(overrides, config=config, environ=environ)
    if settings.log.format == "auto":
        overrides["log.format"] = "json"  # the view makes them readable
    nats = EmbeddedNats(settings.nats) if embedded else None
    argv = _check(settings, nats, console=console)
    if nats is not None:
        overrides["nats.url"] = nats.url  # dialled over loopback where the server listens on all addresses
    return Mesh(
        settings=settings,
        workers=workers,
        lanes_each=_lanes_each(settings.worker, workers) if workers > 1 else settings.worker.lanes,
        environ=_child_environ(environ, overrides, config),
        nats=nats,
        nats_argv=tuple(argv),
        console=console,
    )


def _lanes_each(own: WorkerSettings, workers: int) -> int:
    """As set, or else the workers share what the machine has, rather than each taking all of it."""
    from headrace.worker.device import EngineInventory, choose_lanes, find_device

    if own.lanes:
        return own.lanes
    device = find_device(own.device, EngineInventory())
    return max(1, choose_lanes(0, own.threads_per_lane or 1, device) // workers)


def _ports(settings: Settings, embedded: bool, *, console: bool) -> dict[str, object]:
    """A number for each port that is left open: the processes have to find one another, after a restart too."""
    places = {
        "gateway.port": (settings.gateway.host, settings.gateway.port),
        "router.port": (settings.router.host, settings.router.port),
        "nats.port": (settings.nats.host, settings.nats.port if embedded else 1),
        "console.port": (settings.console.host, settings.console.port if console else 1),
    }
    hosts = {key: host for key, (host, port) in places.items() if port == 0}
    return dict(zip(hosts, free_ports(hosts.values()), strict=True))


def _check(settings: Settings, nats: EmbeddedNats | None, *, console: bool) -> Sequence[str]:
    """The command line of the embedded server. Raises everything that is wrong, at once."""
    faults: list[StartError] = []
    argv: Sequence[str] = ()
    listening: list[tuple[GatewaySettings | RouterSettings | ConsoleSettings, str]] = [
        (settings.gateway, "gateway.port"),
        (settings.router, "router.port"),
    ]
    if console:
        listening.append((settings.console, "console.port"))
    for section, key in listening:
        try:
            check_free(section.host, section.port, key)
        except StartError as error:
            faults.append(error)
    if nats is not None:
        try:
            argv = nats.prepare()
        except StartError as error:
            faults.append(error)
    if faults:
        if nats is not None:
            nats.release()
        raise ExceptionGroup("the mesh cannot start", faults)
    return argv


def _child_environ(
    environ: Mapping[str, str], overrides: Mapping[str, object], config: Path | None
) -> dict[str, str]:
    """The environment of each child: ours, and what the command line says, which wins there as it does here."""
    named = {CONFIG_ENV: str(config.expanduser().absolute())} if config else {}
    return {**environ, **named, **{env_name(key): str(value) for key, value in overrides.items()}}
