"""`headrace simulate`: the scheduling policy and others, on virtual machines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from headrace.cli import simulate_options as flags
from headrace.cli.failures import one_line_errors

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.contract.values import Priority
    from headrace.simulator.load import LoadSpec
    from headrace.simulator.report import Report
    from headrace.simulator.study import Plan

_T = TypeVar("_T")

_FIRST_TOKEN, _TOKEN_TIME = "3,6,12,60", "5,5,5,10"
_FILE_WIDTH = 160
"""Columns of the tables where nobody's terminal sets them."""


def simulate(
    load: flags.LoadOption = "synthetic",
    requests: flags.RequestsOption = 1500,
    offered: flags.OfferedOption = None,
    rate: flags.RateOption = None,
    saturated: flags.SaturatedOption = False,
    scale_context: flags.ScaleContextOption = 8.0,
    scale_output: flags.ScaleOutputOption = 3.0,
    classes: flags.ClassesOption = "realtime=2,high=3,normal=5",
    tenants: flags.TenantsOption = 4,
    flood: flags.FloodOption = None,
    max_tokens: flags.MaxTokensOption = None,
    fleet: flags.FleetOption = "2x1.0,2x2.5",
    grid: flags.GridOption = "small",
    max_batch: flags.MaxBatchOption = 32,
    policy: flags.PolicyOption = "all",
    batches: flags.BatchesOption = "1,2,4,8,16,32",
    scheduler: flags.SchedulerOption = None,
    first_token: flags.FirstTokenOption = _FIRST_TOKEN,
    token_time: flags.TokenOption = _TOKEN_TIME,
    seeds: flags.SeedsOption = 5,
    capacity: flags.CapacityOption = False,
    processes: flags.ProcessesOption = None,
    json_file: flags.JsonFileOption = None,
    html_file: flags.HtmlFileOption = None,
) -> None:
    """Compare the router's scheduling policy with others, on virtual machines and a virtual clock.

    No model is needed and none runs: batches take what was measured of the real engine. Every policy gets the same
    requests and machines; the others are shown at the batch size that is best for them. The same seeds give the same
    decisions.
    """
    with one_line_errors():
        from headrace.simulator.scenario import Scenario, machines_of, parse_settings
        from headrace.simulator.study import Plan

        if sum((offered is not None, rate is not None, saturated)) > 1:
            raise typer.BadParameter("one of them sets the load", param_hint="--offered, --rate, --saturated")
        if saturated and (capacity or flood):
            raise typer.BadParameter("goes with neither --capacity nor --flood", param_hint="--saturated")
        spec = _load(
            load,
            classes,
            flood,
            requests,
            scales=(scale_context, scale_output),
            tenants=tenants,
            limit=max_tokens,
        )
        _parsed("--grid", lambda name: machines_of("1x1", name), grid)
        _parsed("--fleet", lambda text: machines_of(text, grid), fleet)
        scenario = Scenario(
            load=spec,
            grid=grid,
            fleet=fleet,
            first_token=_parsed("--first-token", _by_class, first_token),
            token=_parsed("--token-time", _by_class, token_time),
            max_batch=max_batch,
            settings=_parsed("--set", parse_settings, scheduler or []),
        )
        plan = Plan(
            scenario=scenario,
            policies=_parsed("--policy", _policies, policy),
            seeds=seeds,
            offered=_offered(spec, offered, rate),
            batches=_parsed("--batches", _batches, batches),
            saturated=saturated,
            capacity=capacity,
            processes=processes or _cores(),
        )
        _run(plan, json_file, html_file)


def _run(plan: Plan, json_file: Path | None, html_file: Path | None) -> None:
    from rich.console import Console

    from headrace.cli.bench_progress import showing_progress
    from headrace.simulator.report import report_of
    from headrace.simulator.study import run_study
    from headrace.simulator.table import print_report

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_FILE_WIDTH)
    for flag, file in (("--json", json_file), ("--html", html_file)):
        if file is not None:
            _parsed(flag, _make_room, file)
    with showing_progress() as progress:
        findings = run_study(plan, progress)
    report = report_of(plan, findings)
    print_report(console, report)
    _write(console, report, json_file, html_file)


def _write(console: Console, report: Report, json_file: Path | None, html_file: Path | None) -> None:
    from headrace.simulator.page import page_of
    from headrace.simulator.report import REPORT

    if json_file is not None:
        json_file.write_bytes(REPORT.dump_json(report, indent=2) + b"\n")
        console.print(f"[dim]all figures: {json_file}[/]")
    if html_file is not None:
        html_file.write_text(page_of(report), encoding="utf-8")
        console.print(f"[dim]charts: {html_file}[/]")


def _load(
    source: str,
    classes: str,
    flood: str | None,
    requests: int,
    *,
    scales: tuple[float, float],
    tenants: int,
    limit: int | None,
) -> LoadSpec:
    from headrace.bench.trace import read_trace
    from headrace.simulator.flood import parse_flood
    from headrace.simulator.load import LoadSpec

    trace = None if source == "synthetic" else Path(source)
    if trace is not None:
        read_trace(trace)  # a file that cannot be used is told before anything starts
    return LoadSpec(
        trace=trace,
        requests=requests,
        scale_context=scales[0],
        scale_output=scales[1],
        classes=_parsed("--classes", _classes, classes),
        tenants=tenants,
        flood=None if flood is None else _parsed("--flood", parse_flood, flood),
        max_tokens=limit,
    )


def _offered(spec: LoadSpec, offered: str | None, rate: str | None) -> tuple[float, ...]:
    from headrace.simulator.load import mean_output

    if rate is not None:
        each = mean_output(spec, seed=0)
        return tuple(one * each for one in _parsed("--rate", _positive, rate))
    return () if offered is None else _parsed("--offered", _positive, offered)


def _classes(text: str) -> tuple[tuple[Priority, float], ...]:
    from headrace.bench.load import parse_priorities

    return tuple(sorted((priority, share) for priority, share in parse_priorities(text).items() if share))


def _policies(text: str) -> tuple[str, ...]:
    from headrace.simulator.scenario import POLICIES

    names = (
        tuple(POLICIES) if text == "all" else tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    )
    if unknown := [name for name in names if name not in POLICIES]:
        raise ValueError(f"{', '.join(unknown)!r} is no policy: all, {', '.join(POLICIES)}")
    return names


def _by_class(text: str) -> tuple[float, ...]:
    found = _positive(text)
    if len(found) != 4:
        raise ValueError("write four numbers: realtime, high, normal, batch")
    return found


def _batches(text: str) -> tuple[int, ...]:
    found = tuple(int(one) for one in _positive(text))
    if min(found) < 1 or max(found) > 1024:
        raise ValueError("batches have 1 to 1024 entries")
    return tuple(dict.fromkeys(found))


def _positive(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r}: write numbers, with commas between them") from None
    if not all(0 < one < float("inf") for one in found):
        raise ValueError("numbers above 0")
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _make_room(file: Path) -> None:
    """The folder is there, and the file is none: nobody waits for runs whose figures cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(str(error)) from error
    if file.is_dir():
        raise ValueError(f"{file} is a folder")


def _parsed(flag: str, parse: Callable[..., _T], given: object) -> _T:
    try:
        return parse(given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error
