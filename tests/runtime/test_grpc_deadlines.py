"""A client that ends its call at its deadline is told apart from one that has changed its mind."""

from __future__ import annotations

import pytest

from headrace.runtime.grpc_deadlines import deadline_has_come


@pytest.mark.parametrize(
    ("left_s", "elapsed_s", "has_come"),
    [
        (None, 60.0, False),  # no deadline
        (0.0, 60.0, True),
        (-1.0, 60.0, True),
        (0.2, 60.0, True),  # on the client's clock, and with the way to us, it has
        (0.9, 99.1, True),  # gRPC rounds what it tells us up, by 1 % at most
        (2.0, 98.0, False),
        (1.0, 0.0, False),  # a short one, at its beginning
    ],
)
def test_deadline_has_come(left_s: float | None, elapsed_s: float, has_come: bool) -> None:
    """Just before our deadline it has; earlier it has not."""
    assert deadline_has_come(left_s, elapsed_s) is has_come
