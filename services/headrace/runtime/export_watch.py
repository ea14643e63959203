"""Speaks up once per change of an exporter's state, where the SDK would log every failed try."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Where the SDK logs what goes wrong on the way out. Should they be renamed, its own lines come through again.
_EXPORT_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.metrics._internal.export",
)


class ExportWatch:
    """Watches one exporter. `failing` has one writer at a time: the thread that exports.

    What is logged inside its own export, and what follows from its failing, is told here instead, once.
    """

    def __init__(self, what: str, target: str, *, meanwhile: str) -> None:
        """`what` goes to `target`; `meanwhile` says what becomes of it while it fails."""
        self._what = what
        self._target = target
        self._meanwhile = meanwhile
        self._thread = 0  # the thread that exports, 0 = none
        self._closed = False
        self.failing = False
        for name in _EXPORT_LOGGERS:
            logging.getLogger(name).addFilter(self._admit)

    def attempt(self, export: Callable[[], T], *, succeeded: Callable[[T], bool], failure: T) -> T:
        """The result of `export`; `failure` where it raises."""
        self._thread = threading.get_ident()
        try:
            result = export()
        except Exception as error:
            self._failed(type(error).__name__)
            return failure
        finally:
            self._thread = 0
            if self._closed:
                self._release()
        if succeeded(result):
            self._worked()
        else:
            self._failed("the exporter gave up")
        return result

    def close(self) -> None:
        """The exporter has been shut down."""
        self._closed = True
        if not self._thread:
            self._release()  # else the export that is being cut short does it, when it has logged its last

    def _admit(self, record: logging.LogRecord) -> bool:
        if record.thread == self._thread:
            if record.levelno >= logging.WARNING:
                self._failed(record.getMessage())
            return False
        return not (self.failing and record.getMessage().startswith("Queue full"))

    def _failed(self, problem: str) -> None:
        if not self.failing:
            self.failing = True
            log.warning(f"{self._what} do not reach {self._target}; {self._meanwhile}: {problem}")

    def _worked(self) -> None:
        if self.failing:
            self.failing = False
            log.info(f"{self._what} reach {self._target} again")

    def _release(self) -> None:
        for name in _EXPORT_LOGGERS:
            logging.getLogger(name).removeFilter(self._admit)
