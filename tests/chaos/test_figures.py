"""The figures of a run: pauses after a blow, growth, pace."""

from __future__ import annotations

import os
import time
from array import array

import pytest

from tests.chaos.arrivals import Arrivals
from tests.chaos.asked import Asked, Way
from tests.chaos.blows import Struck
from tests.chaos.growth import Growths, _growth, _Sample
from tests.chaos.pace import Pace
from tests.chaos.reading import Reading
from tests.chaos.schedule import NATS, Act, Blow
from tests.chaos.seen import Seen
from tests.chaos.stalls import Stalls, stalls_by_kind


def struck(victim: str, at_s: float, back_s: float) -> Struck:
    blow = Blow(number=1, at_s=at_s, victim=victim, act=Act.KILL, down_s=back_s - at_s)
    return Struck(blow=blow, began_s=at_s, back_s=back_s)


def read(*times: float, way: Way = Way.STREAM) -> Seen:
    """A stream whose tokens came at these times, one by one."""
    asked = Asked(client="c", number=1, way=way, request_id="r", prompt="p", max_tokens=9)
    arrivals = Arrivals(at_s=array("d", times), next_index=array("I", range(1, len(times) + 1)))
    return Seen(asked, readings=[Reading(arrivals=arrivals)])


def found(hits: list[Struck], seen: list[Seen], kind: str, *, lone: bool = False) -> Stalls:
    (one,) = (stalls for stalls in stalls_by_kind(hits, seen) if stalls.kind == kind and stalls.lone is lone)
    return one


def test_a_pause_counts_for_the_blow_that_it_began_after() -> None:
    """Not one that was over before, nor one long after, nor that of a reader that pauses by itself."""
    hits = [struck("worker-1", 10.0, 11.0)]
    seen = [
        read(9.0, 9.9, 11.5, 11.6),  # 1.6 s
        read(9.8, 10.1, 10.2, 12.2),  # 2.0 s, a little later
        read(9.9, 10.0, 10.1),  # none
        read(8.0, 9.9, 10.0, 10.1, 13.2, 17.0),  # 3.1 s; the last is another's
        read(9.0, 15.0, way=Way.SLOW),
        read(10.5, 15.0),  # began after it
    ]
    stalls = found(hits, seen, "worker kill")
    assert (stalls.blows, stalls.streams, stalls.stalled) == (1, 4, 3)
    assert stalls.p50_s == pytest.approx(2.0)
    assert stalls.most_s == pytest.approx(3.1)


def test_a_blow_is_alone_where_no_other_is_near() -> None:
    """Only such a one shows what one loss costs."""
    hits = [struck("worker-1", 10.0, 11.0), struck("router-1", 30.0, 31.0), struck("worker-2", 32.0, 33.0)]
    stalls = found(hits, [read(9.0, 12.0)], "worker kill", lone=True)
    assert (stalls.blows, stalls.stalled) == (1, 1)
    assert found(hits, [], "worker kill").blows == 2


@pytest.mark.parametrize(("step", "flat"), [(0.0, True), (0.01, True), (0.5, False)])
def test_growth_is_the_slope_through_all_samples(step: float, flat: bool) -> None:
    """Whatever single ones say."""
    noise = [0.0, 0.4, -0.4, 0.0]
    samples = [_Sample(float(at), 100.0 + step * at + noise[at % 4], 20) for at in range(61)]
    growth = _growth("router-1", samples)
    assert growth.slope_mib_min == pytest.approx(60 * step, abs=0.2)
    assert growth.is_flat(0.05) is flat
    assert not growth.more_files


def test_files_that_stay_open_are_told() -> None:
    growth = _growth("router-1", [_Sample(0.0, 100.0, 20), _Sample(1.0, 100.0, 25)])
    assert growth.more_files
    assert _growth(NATS, [_Sample(0.0, 20.0, 20), _Sample(1.0, 40.0, 20)]).is_flat(0.05), "its collector's"


def test_growths_are_those_of_living_processes() -> None:
    """Of this one, for want of another."""

    growths = Growths({"me": os.getpid()})
    for _ in range(3):
        growths.look()
    (growth,) = growths.after(0.0)
    assert (growth.name, growth.first_mib > 5, growth.first_files > 0) == ("me", True, True)


async def test_a_pace_is_kept_and_a_stall_is_not_followed_by_a_flood() -> None:
    """Turns that nobody took are lost, but for those of a second."""
    pace = Pace(100.0)
    began_s = time.monotonic()
    for _ in range(130):
        await pace.turn()
    assert time.monotonic() - began_s >= 0.28, "thirty more than those of the second before"
