"""The flags that say what is asked of a model, for the commands that send a request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from headrace.cli.failures import bad_input

if TYPE_CHECKING:
    from headrace.client.request import Ask

PriorityWord: TypeAlias = Literal["realtime", "high", "normal", "batch"]

PromptArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROMPT",
        help="What to ask, as one message of a chat; - reads standard input.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="NAME", help="Which model. Default: the only one served.", show_default=False
    ),
]
SystemOption = Annotated[
    str | None,
    typer.Option("--system", metavar="TEXT", help="A system message before it.", show_default=False),
]
RawOption = Annotated[
    bool, typer.Option("--raw", help="Give the prompt to the model as it is, without its chat template.")
]
PriorityOption = Annotated[PriorityWord, typer.Option("--priority", help="How urgent it is.")]
MaxTokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", metavar="N", help="The most tokens to make; 256 by default.", show_default=False
    ),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="X",
        help="0 to 2; 0, the default, always takes the likeliest token.",
        show_default=False,
    ),
]
TopKOption = Annotated[
    int | None,
    typer.Option(
        "--top-k", metavar="N", help="Candidates kept; 0, the default, keeps all.", show_default=False
    ),
]
TopPOption = Annotated[
    float | None,
    typer.Option(
        "--top-p", metavar="X", help="Probability mass kept; 1, the default, is all.", show_default=False
    ),
]
PenaltyOption = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty", metavar="X", help="0.5 to 2; 1, the default, is none.", show_default=False
    ),
]
StopOption = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="End before this text. Repeatable.", show_default=False),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="S",
        min=0.001,
        help="Seconds for which the answer is of use.",
        show_default=False,
    ),
]


def build_ask(
    prompt: str,
    *,
    raw: bool,
    system: str | None,
    priority: str,
    tenant: str,
    max_tokens: int | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    repetition_penalty: float | None,
    stop: list[str] | None,
    timeout_s: float | None,
    request_id: str | None = None,
) -> Ask:
    """What the flags ask for; the gateway checks the values. Ends the command where they contradict one another."""
    if raw and system is not None:
        raise bad_input("--system needs a chat, and --raw is none: put it into the prompt")
    if max_tokens == 0:  # on the wire it stands for the default
        raise bad_input("--max-tokens must be at least 1")
    text = read_stdin() if prompt == "-" else prompt
    ask: Ask = {"priority": priority, "tenant": tenant}
    if raw:
        ask["prompt"] = text
    else:
        before = [{"role": "system", "content": system}] if system is not None else []
        ask["messages"] = [*before, {"role": "user", "content": text}]
    if max_tokens is not None:
        ask["max_tokens"] = max_tokens
    if temperature is not None:
        ask["temperature"] = temperature
    if top_k is not None:
        ask["top_k"] = top_k
    if top_p is not None:
        ask["top_p"] = top_p
    if repetition_penalty is not None:
        ask["repetition_penalty"] = repetition_penalty
    if stop:
        ask["stop"] = stop
    if timeout_s is not None:
        ask["timeout_s"] = timeout_s
    if request_id:
        ask["request_id"] = request_id
    return ask


def read_stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise bad_input("standard input is not UTF-8 text") from None
