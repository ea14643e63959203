"""The table of commands. Nothing heavy is imported before a command runs: `headrace --help` is there at once."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from headrace.cli.attach import attach
from headrace.cli.bench import bench
from headrace.cli.calibrate import calibrate
from headrace.cli.deferred import deferred
from headrace.cli.demo import demo
from headrace.cli.drain import drain
from headrace.cli.embed import embed
from headrace.cli.generate import generate
from headrace.cli.log_level import log_level
from headrace.cli.members import members
from headrace.cli.plan import plan
from headrace.cli.processes import console, gateway, router, worker
from headrace.cli.requests import cancel, models, result, submit
from headrace.cli.settings_table import settings
from headrace.cli.simulate import simulate
from headrace.cli.top import top
from headrace.cli.trace import trace, traces
from headrace.cli.translate import translate
from headrace.cli.up import up

_MESH = "A mesh on this machine"
_ASK = "Asking a mesh"
_OPERATE = "Operating a mesh"
_SINGLE = "Single processes"
_MEASURE = "Measuring"
_SETUP = "Setting up"

app = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # rich's tracebacks print local variables, which may hold a prompt
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="A first answer:\n"
    "  headrace up                                            in one terminal\n"
    '  headrace generate "What is the capital of France?"     in another',
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"headrace {version('headrace')}")
        raise typer.Exit


@app.callback()
def headrace(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """An inference mesh: requests from NATS queues to models on your own machines, tokens back over gRPC."""


def _add(command: object, panel: str, examples: str) -> None:
    assert callable(command)
    app.command(rich_help_panel=panel, epilog=f"Examples:\n{examples}")(command)


_add(
    up,
    _MESH,
    "  headrace up\n"
    "  headrace up --workers 2 --lanes 1\n"
    "  headrace up --nats-url nats://broker:4222 --set log.level=debug",
)
_add(demo, _MESH, "  headrace demo")
_add(
    generate,
    _ASK,
    '  headrace generate "Why is the sky blue?"\n'
    '  headrace generate --temperature 0.8 --top-p 0.9 --max-tokens 100 "Tell me a story."\n'
    "  cat letter.txt | headrace generate --system 'Summarise in a sentence.' -\n"
    '  headrace generate --json "Hello" | jq .\n'
    '  headrace generate --keep --address gw-1:7700,gw-2:7700 "Tell me a long story."',
)
_add(
    embed,
    _ASK,
    '  headrace embed "A dog barks." "Ein Hund bellt."\n'
    "  cat texts.txt | headrace embed --model minilm - > vectors.jsonl     a text a line",
)
_add(
    translate,
    _ASK,
    '  headrace translate --from eng_Latn --to fra_Latn "Good morning."\n'
    "  cat letter.txt | headrace translate --beams 4 -",
)
_add(submit, _ASK, '  headrace submit --priority batch "Why is the sky blue?"')
_add(attach, _ASK, "  headrace attach 0197f3a2-…\n  headrace attach 0197f3a2-… --from 120 --json")
_add(result, _ASK, "  headrace result 0197f3a2-…\n  headrace result --wait 60 --json 0197f3a2-…")
_add(cancel, _ASK, "  headrace cancel 0197f3a2-…")
_add(models, _ASK, "  headrace models\n  headrace models --address 10.0.0.7:7700 --json")
app.add_typer(
    deferred("headrace.cli.dead", help="List, show, replay and drop dead letters."),
    name="dead",
    rich_help_panel=_ASK,
)
_add(members, _OPERATE, "  headrace members\n  headrace members --address 10.0.0.7:7700 --json | jq '.[].id'")
_add(
    drain,
    _OPERATE,
    "  headrace drain box-1-4711\n"
    "  headrace drain --kind router r-1 --wait 120\n"
    "  headrace members --json | jq -r '.[].id' | xargs -n 1 headrace drain     a rolling restart of all",
)
_add(
    log_level,
    _OPERATE,
    "  headrace log-level box-1-4711 debug\n  headrace log-level --kind router r-1 as-set",
)
_add(trace, _OPERATE, "  headrace trace 0197f3a2-…\n  headrace trace 4bf92f3577b34da6a3ce929d0e0e4736 --json")
_add(traces, _OPERATE, "  headrace traces\n  headrace traces --failed --limit 100")
_add(
    top,
    _OPERATE,
    "  headrace top\n  headrace top --nats-url nats://broker:4222 --once\n  headrace top --json | jq .figures",
)
_add(
    console,
    _OPERATE,
    "  headrace console\n  headrace console --nats-url nats://broker:4222 --port 7780 --host 0.0.0.0",
)
_add(router, _SINGLE, "  headrace router --host 0.0.0.0 --nats-url nats://broker:4222")
_add(gateway, _SINGLE, "  headrace gateway --host 0.0.0.0 --port 7700 --nats-url nats://broker:4222")
_add(
    worker,
    _SINGLE,
    "  headrace worker --router 10.0.0.7:7701,10.0.0.8:7701\n"
    "  headrace worker --router 10.0.0.7:7701 --device cuda:0 --compute-type float16 --lanes 1 --max-batch 32",
)
_add(
    bench,
    _MEASURE,
    "  headrace bench\n"
    "  headrace bench --engine fake --clients 64 --requests 512\n"
    "  headrace bench --synthetic --scale-time 4 --json out/bench.json\n"
    "  headrace bench --trace requests.csv",
)
_add(
    calibrate,
    _MEASURE,
    "  headrace calibrate smollm2\n"
    "  headrace calibrate smollm2 --device cuda:0 --compute-type float16\n"
    "  headrace calibrate smollm2 --seconds 20 --lanes-threads 2x1 --json",
)
_add(
    simulate,
    _MEASURE,
    "  headrace simulate\n"
    "  headrace simulate --load requests.csv --capacity --seeds 5 --html out/policies.html\n"
    "  headrace simulate --fleet 4x1.0,8x3.0+4 --grid smollm2 --flood 20,20,5 --policy headrace,dynamic\n"
    "  headrace simulate --policy headrace --offered 500 --set lookahead=64 --json out/headrace.json",
)
app.add_typer(
    deferred(
        "headrace.cli.model", help="Pull, list, verify, push and deploy models; say which version answers."
    ),
    name="model",
    rich_help_panel=_SETUP,
)
_add(
    plan,
    _SETUP,
    "  headrace plan smollm2\n"
    "  headrace plan 7B 70B --machine 'h200 141GB' --machine 'cpu 64 cores 256GB 200GB/s' --context 4096\n"
    "  headrace plan model.gguf --mesh --json | jq '.[] | select(.fits == \"yes\")'",
)
_add(settings, _SETUP, "  headrace settings\n  headrace settings router")


def main() -> None:
    """The console script."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # what gRPC tells of connections, our log tells in words
    app(prog_name="headrace")
