"""How much is asked of each model."""

from __future__ import annotations

import pytest

from headrace.router.asked_meter import RATE_S, AskedMeter


def test_what_is_asked_adds_up_by_model_and_is_forgotten() -> None:
    """Announcements of all its queues make a rate, which fades; what waits is as it is now."""
    announced = {"hr.v1.req.m.high.a": 3, "hr.v1.req.m.normal.b": 3, "hr.v1.req.bad": 9}
    waiting = {"hr.v1.req.m.high.a": 2, "hr.v1.req.n.normal.b": 1}
    meter = AskedMeter(lambda: announced, lambda: waiting)
    first = meter.look(0.0)
    assert (first["m"].rate, first["m"].waiting) == (6 / RATE_S, 2)
    assert (first["n"].rate, first["n"].waiting) == (0.0, 1)
    announced, waiting = {}, {}
    assert meter.look(RATE_S)["m"].rate == pytest.approx(6 / RATE_S / 2.718, rel=1e-3)
    assert meter.look(100 * RATE_S) == {}
