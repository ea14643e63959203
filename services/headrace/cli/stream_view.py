"""How the answer to a request looks in a terminal while it comes."""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.status import Status

from headrace.contract.values import Accepted, Outcome, OutcomeKind, QueuePosition, TokenChunk

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str, out: TextIO) -> str:
    """What a model wrote, for `out`: it must not steer a terminal, so no escape sequence and no carriage return."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text) if out.isatty() else text


class StreamView:
    """Text goes to `out`; place in the queue and figures go to `notes`. A context manager.

    Writers: `request_id`, `began_s`, `first_s`, `last_s` by `show`.
    """

    def __init__(self, out: TextIO, notes: Console, *, quiet: bool = False, indent: str = "") -> None:
        """`quiet`: no figures, no place in the queue. `indent` goes before each line after the first."""
        self._out = out
        self._notes = notes
        self._quiet = quiet
        self._indent = indent
        self._status: Status | None = None
        self._at_line_start = True
        self.request_id = ""
        self._tokens = 0
        self._began_s = time.monotonic()
        self._first_s = 0.0
        self._last_s = 0.0

    def __enter__(self) -> Self:
        if self._notes.is_terminal and not self._quiet:
            self._status = self._notes.status("[dim]sending[/]", spinner="dots")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_status()
        if not self._at_line_start:
            self._write("\n")

    def show(self, event: Accepted | QueuePosition | TokenChunk | Outcome) -> None:
        """One event, in the order they come."""
        match event:
            case Accepted():
                self.request_id = event.request_id
                self._show_place(event.position)
            case QueuePosition():
                self._show_place(event)
            case TokenChunk():
                self._show_tokens(event)
            case Outcome():
                self._show_end(event)

    def _show_place(self, place: QueuePosition) -> None:
        if self._status is None:
            return
        wait = "" if place.estimated_wait_s is None else f", about {place.estimated_wait_s:.1f} s"
        self._status.update(f"[dim]{place.ahead} ahead in the queue{wait}[/]")

    def _show_tokens(self, chunk: TokenChunk) -> None:
        now_s = time.monotonic()
        if not self._tokens:
            self._stop_status()
            self._first_s = now_s - self._began_s
        self._tokens += len(chunk.token_ids)
        self._last_s = now_s - self._began_s
        self._write(harmless(chunk.text, self._out).replace("\n", f"\n{self._indent}"))

    def _show_end(self, outcome: Outcome) -> None:
        self._stop_status()
        if not self._at_line_start:
            self._write("\n")
        if not self._quiet:
            figures = f"{self._indent}{self.figures(outcome)}"
            self._notes.print(figures, style="dim", soft_wrap=True, markup=False, highlight=False)

    def figures(self, outcome: Outcome) -> str:
        """What the request took: times as seen from here, the rest as the mesh says."""
        usage = outcome.usage
        parts = [f"{usage.prompt_tokens} + {usage.output_tokens} tokens"]
        if self._tokens:
            parts.append(f"first token {self._first_s * 1000:.0f} ms")
        if self._tokens > 1 and self._last_s > self._first_s:
            parts.append(f"{(self._tokens - 1) / (self._last_s - self._first_s):.0f} tokens/s")
        parts.append(f"waited {usage.queue_s * 1000:.0f} ms")
        if usage.resumptions:
            parts.append(f"resumed {usage.resumptions}×")
        if outcome.earlier_models:
            parts.append(f"began at {harmless(', '.join(outcome.earlier_models), self._out)}")
        parts.append(_end_word(outcome))
        return " · ".join([*parts, outcome.request_id or self.request_id])

    def _write(self, text: str) -> None:
        if text:
            self._out.write(text)
            self._out.flush()
            self._at_line_start = text.endswith("\n")

    def _stop_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _end_word(outcome: Outcome) -> str:
    if outcome.kind is OutcomeKind.COMPLETED and outcome.finish_reason is not None:
        return f"finished: {outcome.finish_reason.value}"
    return outcome.kind.value
