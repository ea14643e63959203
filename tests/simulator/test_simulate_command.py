"""`headrace simulate` from end to end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.main import app
from headrace.simulator.report import REPORT
from headrace.simulator.scenario import POLICIES
from tests.cli.running import Running
from tests.simulator.virtual import write_trace

SMALL = ("--requests", "60", "--seeds", "2", "--batches", "1,4", "--processes", "1")


def simulate(*flags: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *flags])


def test_all_figures_are_in_the_tables_the_json_and_the_page(tmp_path: Path) -> None:
    """Every policy at every load; the JSON is the report, and the page's charts are well-formed and need nothing."""
    files = tmp_path / "out" / "a.json", tmp_path / "out" / "a.html"
    done = simulate(*SMALL, "--offered", "200,600", "--json", str(files[0]), "--html", str(files[1]))
    assert done.exit_code == 0, done.output
    for name in POLICIES:
        assert len(re.findall(rf"\b{name}\b", done.stdout)) == 4  # two loads in two tables
    written = files[0].read_bytes()
    report = json.loads(written)
    assert json.loads(REPORT.dump_json(REPORT.validate_json(written))) == report
    points = report["findings"]["points"]
    assert {(point["policy"], point["offered"]) for point in points} == {
        (name, offered) for name in POLICIES for offered in (200.0, 600.0)
    }
    assert all(len(point["runs"]) == 2 for point in points)
    page = files[1].read_text(encoding="utf-8")
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) >= 8
    for chart in charts:
        assert len(ElementTree.fromstring(chart).findall("polyline")) == len(POLICIES)
    assert "http" not in page
    for name in (*POLICIES, "Goodput", "First token, p99: realtime", "Jain", "Utilisation"):
        assert name in page


def test_a_capacity_and_what_twice_of_it_does(tmp_path: Path) -> None:
    """The search's result and the overload are told, for the policies that were asked for."""
    files = tmp_path / "a.json", tmp_path / "a.html"
    flags = ("--policy", "headrace,dynamic", "--capacity", "--json", str(files[0]), "--html", str(files[1]))
    done = simulate(*SMALL, *flags)
    assert done.exit_code == 0, done.output
    findings = json.loads(files[0].read_bytes())["findings"]
    limits = {one["policy"]: one["tokens_per_s"] for one in findings["capacities"]}
    assert set(limits) == {"headrace", "dynamic"}
    assert all(0 < limit["low"] <= limit["median"] <= limit["high"] for limit in limits.values())
    assert {point["policy"] for point in findings["overload"]} == set(limits)
    assert findings["overload"][0]["offered"] == pytest.approx(2 * limits["headrace"]["median"], rel=0.05)
    assert "At twice the capacity" in done.stdout
    assert "Capacity" in files[1].read_text(encoding="utf-8")


def test_a_trace_all_at_once_on_machines_of_ones_own(tmp_path: Path) -> None:
    """A recorded load, costs from a file, and bars instead of lines where there is one load."""
    grid = tmp_path / "grid.json"
    surface = {"batches": [1, 4], "contexts": [10, 500], "seconds": [[0.01, 0.02], [0.02, 0.05]]}
    grid.write_text(json.dumps({"step": surface, "prefill": surface}))
    trace = write_trace(tmp_path / "trace.csv")
    page = tmp_path / "a.html"
    flags = ("--load", str(trace), "--saturated", "--fleet", "1x1.0,1x3+2", "--grid", str(grid))
    done = simulate(*SMALL, *flags, "--policy", "headrace,oracle", "--html", str(page))
    assert done.exit_code == 0, done.output
    assert "all at once" in done.stdout
    assert "load: trace.csv" in done.stdout
    assert "<rect" in page.read_text(encoding="utf-8")


def test_a_flood_is_told_of_in_the_others_waits() -> None:
    """The column is there with a flood only."""
    flags = (*SMALL, "--policy", "headrace", "--offered", "300")
    assert "others' goodput" in simulate(*flags, "--flood", "2,5,4").stdout
    assert "others' goodput" not in simulate(*flags).stdout


def test_runs_in_other_processes_decide_the_same(tmp_path: Path) -> None:
    """Two processes or one: equal figures, to the last digit; and none of them is left."""
    written = []
    for processes in ("1", "2"):
        file = tmp_path / f"{processes}.json"
        flags = ["--requests", "60", "--seeds", "2", "--policy", "headrace,fifo-rr", "--batches", "1,2"]
        command = [sys.executable, "-m", "headrace.cli", "simulate", *flags, "--offered", "300"]
        subprocess.run(
            [*command, "--processes", processes, "--json", str(file)],
            check=True,
            capture_output=True,
            timeout=60,
        )
        written.append(file.read_bytes())
    assert written[0] == written[1]


def test_an_interrupted_study_leaves_no_process() -> None:
    """Ctrl-C in the middle of long runs: exit code 130 at once, and nobody goes on with them."""
    with Running("simulate", "--requests", "300000", "--processes", "2") as study:
        study.wait_for("every setup")
        assert study.end() == 130
        assert study.left_over(10.0) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--load", "/nowhere.csv"], "nowhere"),
        (["--fleet", "two fast"], "--fleet"),
        (["--fleet", "0x1"], "--fleet"),
        (["--grid", "huge"], "--grid"),
        (["--policy", "headrace,best"], "--policy"),
        (["--offered", "0"], "--offered"),
        (["--offered", "many"], "--offered"),
        (["--rate", "-1"], "--rate"),
        (["--batches", "0"], "--batches"),
        (["--classes", "urgent=1"], "--classes"),
        (["--flood", "1,2"], "--flood"),
        (["--first-token", "1,2"], "--first-token"),
        (["--token-time", "1,2,3,x"], "--token-time"),
        (["--set", "speed=3"], "--set"),
        (["--set", "lookahead=some"], "--set"),
        (["--json", "/proc/x/y.json"], "--json"),
        (["--saturated", "--capacity"], "--saturated"),
        (["--offered", "3", "--rate", "4"], "--rate"),
    ],
)
def test_a_bad_option_is_named(flags: list[str], words: str) -> None:
    """Exit code 2, and the option and what is wrong with it on stderr; nothing runs."""
    done = simulate(*SMALL, *flags)
    assert done.exit_code == 2
    assert words in done.output
    assert "Traceback" not in done.output


def test_a_constant_of_the_scheduler_can_be_set(tmp_path: Path) -> None:
    """It is told of, and reaches the core: a router that holds one request at a time cannot keep four slots busy."""
    file = tmp_path / "a.json"
    one_queue = ("--classes", "normal", "--tenants", "1")
    flags = (*SMALL, *one_queue, "--policy", "headrace", "--saturated", "--json", str(file))
    makespans = []
    for setting in ("max_held=10000", "max_held=1"):
        done = simulate(*flags, "--set", setting)
        assert done.exit_code == 0, done.output
        report = json.loads(file.read_bytes())
        assert report["settings"]["scheduler"] == setting
        makespans.append(report["findings"]["points"][0]["runs"][0]["makespan_s"])
    assert makespans[1] > 1.5 * makespans[0]
