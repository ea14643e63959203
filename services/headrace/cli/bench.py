"""`headrace bench`: a mesh under load, and the engine beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from headrace.cli import bench_options as flags
from headrace.cli.failures import one_line_errors
from headrace.cli.options import (
    ComputeTypeOption,
    DeviceOption,
    LanesOption,
    MaxBatchOption,
    SetOption,
    ThreadsOption,
    gather_overrides,
)

if TYPE_CHECKING:
    from headrace.bench.load import Source
    from headrace.bench.plan import Phase
    from headrace.contract.values import Priority

T = TypeVar("T")

FAKE = "fake"
_DEFAULT_CLIENTS = "1,8,32"


def bench(
    engine: flags.EngineOption = "model",
    model: flags.ModelOption = "smollm2",
    step_ms: flags.StepOption = 10.0,
    prefill_ms: flags.PrefillOption = 0.0,
    clients: flags.ClientsOption = None,
    rate: flags.RateOption = None,
    requests: flags.RequestsOption = None,
    duration: flags.DurationOption = None,
    prompt_tokens: flags.PromptTokensOption = "16-256",
    output_tokens: flags.OutputTokensOption = "16-128",
    synthetic: flags.SyntheticOption = False,
    trace: flags.TraceOption = None,
    scale_time: flags.ScaleTimeOption = 1.0,
    scale_prompt: flags.ScalePromptOption = 8.0,
    scale_output: flags.ScaleOutputOption = 3.0,
    priority_mix: flags.PriorityMixOption = "normal",
    seed: flags.SeedOption = 0,
    warm_up: flags.WarmUpOption = None,
    timeout: flags.TimeoutOption = 300.0,
    client_processes: flags.ClientProcessesOption = 1,
    rounds: flags.RoundsOption = 1,
    direct: flags.DirectOption = True,
    direct_batches: flags.DirectBatchesOption = "1,2,4,8",
    stream_check: flags.StreamCheckOption = True,
    address: flags.RunningOption = None,
    workers: flags.WorkersOption = 1,
    lanes: LanesOption = None,
    threads_per_lane: ThreadsOption = None,
    max_batch: MaxBatchOption = None,
    device: DeviceOption = None,
    compute_type: ComputeTypeOption = None,
    assignments: SetOption = None,
    json_file: flags.JsonFileOption = None,
) -> None:
    """Measure a mesh under load, and the same requests on the engine directly.

    Starts a mesh of its own on free ports and in a temporary folder, and leaves nothing of it. The exit code is 1
    where any request failed.
    """
    # gRPC would complain at each start of a child that its threads run; the child becomes another program at once.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

    from headrace.bench.plan import Plan
    from headrace.cli.bench_run import MeshAsked, run_bench
    from headrace.models.fake import FakeTiming

    given = {
        "worker.lanes": lanes,
        "worker.threads_per_lane": threads_per_lane,
        "worker.max_batch": max_batch,
        "worker.device": device,
        "worker.compute_type": compute_type,
    }
    with one_line_errors():
        open_loop = clients is None and bool(rate or synthetic or trace)
        source = _source(
            trace, synthetic, prompt_tokens, output_tokens, scales=(scale_time, scale_prompt, scale_output)
        )
        plan = Plan(
            model=FAKE if engine == FAKE else model,
            source=source,
            phases=_phases(None if open_loop else clients or _DEFAULT_CLIENTS),
            rate=rate or _own_rate(source),
            requests=requests,
            duration_s=duration,
            seed=seed,
            priorities=_parsed("--priority-mix", _priorities, priority_mix),
            warm_up=warm_up,
            timeout_s=timeout,
            driver_processes=client_processes,
            rounds=rounds,
            direct_batches=_parsed("--direct-batches", _numbers, direct_batches),
            stream_check=stream_check,
        )
        asked = MeshAsked(
            address=address,
            fake=FakeTiming(step_s=step_ms / 1e3, prefill_s_per_token=prefill_ms / 1e3)
            if engine == FAKE
            else None,
            workers=workers,
            overrides=gather_overrides(assignments, given),
            direct=direct and address is None,
        )
        raise typer.Exit(run_bench(plan, asked, json_file))


def _source(
    trace: Path | None, synthetic: bool, prompt: str, output: str, *, scales: tuple[float, float, float]
) -> Source:
    from headrace.bench.lengths import parse_lengths
    from headrace.bench.load import Drawn, Recorded, Synthetic
    from headrace.bench.trace import read_trace

    scale_time, scale_prompt, scale_output = scales
    if trace is not None:
        read_trace(trace)  # a file that cannot be used is told before anything starts
        return Recorded(
            path=trace, scale_time=scale_time, scale_prompt=scale_prompt, scale_output=scale_output
        )
    if synthetic:
        return Synthetic(scale_prompt=scale_prompt, scale_output=scale_output)
    for flag, span in (("--prompt-tokens", prompt), ("--output-tokens", output)):
        _parsed(flag, parse_lengths, span)
    return Drawn(prompt=prompt, output=output)


def _phases(clients: str | None) -> tuple[Phase, ...]:
    from headrace.bench.plan import Phase

    if clients is None:
        return (Phase(clients=0),)
    return tuple(Phase(clients=count) for count in _parsed("--clients", _numbers, clients))


def _own_rate(source: Source) -> float:
    from headrace.bench.load import mean_rate

    return mean_rate(source)


def _priorities(text: str) -> dict[Priority, float]:
    from headrace.bench.load import parse_priorities

    return parse_priorities(text)


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if min(numbers) < 1:
        raise ValueError("must be 1 or more")
    return numbers


def _parsed(flag: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error
