"""`headrace top` as a person sees it: in a terminal whose size changes, on a mesh whose broker goes and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli.top_view import view
from headrace.console.picture import Picture
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings
from tests.cli.running import Running, run
from tests.cli.terminal import AtTerminal
from tests.cli.test_top import nats_of
from tests.ports import free_port

pytestmark = pytest.mark.integration


def test_top_follows_the_terminal(mesh: Running) -> None:
    """Wide, then narrow without a broken line or a name that is cut to nothing; Ctrl-C leaves it as it was."""
    router = run("members", "--address", mesh.gateway, "--json").stdout.split('"id": "r-')[1][:8]
    with AtTerminal("top", "--every", "0.25", "--nats-url", nats_of(mesh), columns=110, lines=30) as top:
        wide = top.screen(lambda lines: any(f"r-{router}" in line for line in lines), "with the router")
        assert wide[0].startswith("Headrace live   running 0   waiting 0")
        assert any("lanes: requests × context by lane" in line for line in wide)
        top.resize(60, 24)
        narrow = top.screen(lambda lines: max(map(len, lines)) <= 60, "of 60 columns")
        assert len(narrow) <= 24
        assert any(f"r-{router}" in line and "serving" in line for line in narrow)
        assert any(line.startswith("worker") and line.endswith("lanes") for line in narrow)
        assert not any("…" in line for line in narrow)
        top.resize(30, 8)
        small = top.screen(lambda lines: max(map(len, lines)) <= 30 and len(lines) <= 8, "of 30 columns")
        assert small[0].startswith("Headrace live")
        top.press(b"\x03")
        assert top.wait() == 130
        left = top.said.rpartition("\x1b[?1049l")
        assert left[1], "the screen is that of before"
        assert "\x1b[?25h" in top.said[-200:], "the cursor is seen"
        assert "Traceback" not in top.said


def test_top_goes_on_when_the_broker_goes_and_comes_back(tmp_path: Path) -> None:
    """It says that there is no mesh, that NATS is away, and that it is back."""
    broker = EmbeddedNats(NatsSettings(port=free_port(), store_dir=tmp_path / "nats"))
    broker.start()
    try:
        with AtTerminal("top", "--every", "0.25", "--nats-url", broker.url, columns=80, lines=24) as top:
            top.screen(
                lambda lines: any("No router shows itself" in line for line in lines), "without a mesh"
            )
            broker.stop()
            top.screen(lambda lines: lines[0].startswith("Headrace NATS away"), "without a broker")
            broker.start()
            top.screen(lambda lines: lines[0].startswith("Headrace live"), "with the broker again")
    finally:
        broker.stop()


def test_top_at_a_terminal_says_that_nats_is_not_there() -> None:
    """In a line, without a screen that vanishes with it; exit code 1."""
    with AtTerminal("top", "--nats-url", "nats://127.0.0.1:9", columns=80, lines=24) as top:
        assert top.wait() == 1
    assert "NATS at nats://127.0.0.1:9 is not reachable" in top.said
    assert "\x1b[?1049h" not in top.said


def test_many_queues_and_workers_fit_on_a_screen() -> None:
    """However many there are, what is left out is counted."""
    from rich.console import Console

    from tests.console.crowd import Crowd

    picture = Picture(lambda: 1000.0)
    crowd = Crowd()
    crowd.workers, crowd.queues = 200, 500
    for state in crowd.step():
        picture.router_is(state)
    terminal = Console(width=60, height=40)
    with terminal.capture() as captured:
        terminal.print(view(picture.tables(), {}, 1000.0, height=40, width=60))
    lines = captured.get().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 60
    assert sum("more queues" in line or "more workers" in line for line in lines) == 2
