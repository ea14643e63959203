"""What is inside an exception that may be a group: a TaskGroup wraps even a single error in one."""

from __future__ import annotations

import asyncio

from headrace.contract.errors import HeadraceError


def expected_errors(error: BaseException) -> tuple[HeadraceError, ...]:
    """The errors of our tree that `error` consists of; none where anything else is among them.

    Cancellations beside an error are its consequence and do not count.
    """
    found = [leaf for leaf in leaves(error) if not isinstance(leaf, asyncio.CancelledError)]
    expected = tuple(leaf for leaf in found if isinstance(leaf, HeadraceError))
    return expected if len(expected) == len(found) else ()


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions that `error` is made of: itself, unless it is a group."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in leaves(inner)]
