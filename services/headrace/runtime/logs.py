"""Structured log lines on stderr: coloured on a terminal, one JSON object a line elsewhere.

    log = structlog.get_logger(__name__)
    log.info("joined router", router="10.0.0.7:7701")

Each line says which process and instance wrote it, and carries the trace and span it was written in. Lines never
hold what a request said or a model answered: values under the names below are withheld, and tracebacks are printed
without local variables.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TextIO

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from headrace.runtime.settings import LogSettings

# Names under which content would travel. A last guard: nobody should pass them at all.
CONTENT_KEYS = frozenset(
    {
        "prompt",
        "prompts",
        "text",
        "texts",
        "output",
        "outputs",
        "content",
        "messages",
        "payload",
        "stop",
        "tokens",
    }
)


def configure_logs(
    settings: LogSettings, *, process: str, instance: str = "", stream: TextIO | None = None
) -> None:
    """Sets up structlog and the standard library's logging for this process. May be called again: the last call wins.

    Headrace's own lines are written from `settings.level` up; those of libraries from WARNING up.
    `stream` stands in for stderr.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Identity(process, instance),
        add_trace,
        withhold_content,
    ]
    _route_standard_logging(settings, shared, stream)
    # Through the standard library's handler, because that one swallows the errors of a closed stderr: a log line must
    # never fail a request.
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _route_standard_logging(settings: LogSettings, shared: Sequence[Processor], stream: TextIO) -> None:
    """One handler at the root writes everything; ours are told apart from the libraries' by the logger's name."""
    level: int = getattr(logging, settings.level.upper())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(settings, stream),
            ],
        )
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, structlog.stdlib.ProcessorFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("headrace").setLevel(level)
    logging.captureWarnings(True)


def _rendering(settings: LogSettings, stream: TextIO) -> list[Processor]:
    """The last steps from event to text. Neither way prints local variables: they may hold content."""
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    if console:
        return [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


class _Identity:
    """Adds which process wrote the line."""

    def __init__(self, process: str, instance: str) -> None:
        self._fields = {"process": process} | ({"instance": instance} if instance else {})

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        for key, value in self._fields.items():
            event.setdefault(key, value)
        return event


def add_trace(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Adds trace_id and span_id of the current span, where there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event.setdefault("trace_id", trace.format_trace_id(context.trace_id))
        event.setdefault("span_id", trace.format_span_id(context.span_id))
    return event


def withhold_content(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replaces what stands under a name that content would travel under; a number may stay, it is a count."""
    for key in CONTENT_KEYS & event.keys():
        if not isinstance(event[key], (int, float)):
            event[key] = "(withheld)"
    return event
