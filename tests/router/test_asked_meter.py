"""How much is asked for by each name."""

from __future__ import annotations

import pytest

from headrace.router.asked_meter import RATE_S, AskedMeter, Name

M, N = Name(name="m"), Name(name="n")


def test_what_is_asked_adds_up_by_name_and_is_forgotten() -> None:
    """Announcements of all its queues make a rate, which fades; what waits is as it is now. Copies are apart."""
    announced = {
        "hr.v1.req.m.high.a": 3,
        "hr.v1.req.m.normal.b": 3,
        "hr.v1.req.m.batch._shadow": 5,
        "hr.v1.req.bad": 9,
    }
    waiting = {"hr.v1.req.m.high.a": 2, "hr.v1.req.n.normal.b": 1}
    meter = AskedMeter(lambda: announced, lambda: waiting)
    first = meter.look(0.0)
    assert (first[M].rate, first[M].waiting) == (6 / RATE_S, 2)
    assert (first[N].rate, first[N].waiting) == (0.0, 1)
    assert first[Name(name="m", copies=True)].rate == 5 / RATE_S
    announced, waiting = {}, {}
    assert meter.look(RATE_S)[M].rate == pytest.approx(6 / RATE_S / 2.718, rel=1e-3)
    assert meter.look(100 * RATE_S) == {}
