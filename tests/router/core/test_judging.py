"""When a new version is rolled back: what is enough, what is worse, and for how long it has to be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.router.core.judging import Judge, Margins, Sample, worse

MARGINS = Margins(min_requests=20, error_margin=0.05, late_margin=0.1, checks=3, check_every=5, memory=200)
OLD, NEW = "old", "new"

Answers = st.lists(st.tuples(st.sampled_from([OLD, NEW]), st.booleans(), st.booleans()), max_size=300)


def judge(margins: Margins = MARGINS) -> Judge:
    made = Judge(margins)
    made.tries(OLD, NEW)
    return made


def feed(to: Judge, version: str, count: int, *, failed: int = 0, late: int = 0) -> list[int]:
    """`count` answers, of which every so-many-th failed or was late; after which of them a roll-back was asked for."""
    return [
        number
        for number in range(1, count + 1)
        if to.answered(
            version, failed=bool(failed) and number % failed == 0, late=bool(late) and number % late == 0
        )
    ]


def test_a_version_that_fails_is_rolled_back_after_enough_checks() -> None:
    """Not at the first check that finds it worse, but at the third, with a reason for a person."""
    made = judge()
    feed(made, OLD, 100)
    assert feed(made, NEW, 30, failed=2)[:1] == [30]
    assert worse(made.sample(OLD), made.sample(NEW), MARGINS) == (
        "50% of its requests fail or lose an attempt, 0% before"
    )


def test_a_version_that_is_late_is_rolled_back() -> None:
    """Its first tokens miss their objective more often than the old one's."""
    made = judge()
    feed(made, OLD, 100, late=10)
    assert feed(made, NEW, 30, late=2)
    assert not feed(judge(), NEW, 60, late=11), "within the margin"


def test_a_good_check_between_bad_ones_begins_the_count_anew() -> None:
    """Hysteresis: with two bad checks in a row, a good one, and two bad ones, nothing happens."""
    margins = Margins(min_requests=5, error_margin=0.3, checks=3, check_every=20, memory=10)
    made = judge(margins)
    asked = [made.answered(NEW, failed=failed, late=False) for failed in ([True] * 40 + [False] * 20) * 5]
    assert not any(asked)
    assert any(made.answered(NEW, failed=True, late=False) for _ in range(60))


def test_a_version_that_is_tried_again_begins_with_nothing() -> None:
    """What made an earlier trial fail may be mended; the old version keeps what it has."""
    made = judge()
    feed(made, OLD, 50)
    feed(made, NEW, 50, failed=1)
    made.rests()
    made.tries(OLD, NEW)
    assert (made.sample(NEW), made.sample(OLD).answered) == (Sample(), 50)
    assert not feed(made, NEW, 100)


def test_a_trial_with_an_end_is_over_then() -> None:
    """What was promoted long ago is not rolled back for a bad day."""
    made = Judge(MARGINS)
    made.tries(OLD, NEW, until=100)
    assert not feed(made, NEW, 100)
    assert not feed(made, NEW, 200, failed=1)


@given(Answers)
def test_nothing_happens_before_there_is_enough(answers: list[tuple[str, bool, bool]]) -> None:
    """However bad: fewer answers of the new version than `min_requests` and `checks` checks roll back nothing."""
    made = judge()
    least = MARGINS.min_requests + (MARGINS.checks - 1) * MARGINS.check_every
    seen = 0
    for version, failed, late in answers:
        seen += version == NEW
        asked = made.answered(version, failed=failed, late=late)
        assert not asked or (version == NEW and seen >= least)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=400))
def test_a_version_that_does_what_the_old_one_does_stays(answers: list[tuple[bool, bool]]) -> None:
    """Whatever that is, both having answered enough to be compared."""
    made = judge()
    for failed, late in answers:
        before = made.sample(OLD)
        made.answered(OLD, failed=failed, late=late)
        asked = made.answered(NEW, failed=failed, late=late)
        assert not asked or before.answered < MARGINS.min_requests


@given(st.integers(20, 500), st.integers(0, 100), st.integers(0, 100), st.integers(0, 20), st.integers(0, 20))
def test_more_failures_are_never_better(answered: int, failed: int, late: int, more: int, old: int) -> None:
    """What is worse stays worse with more failures or late ones of the new version, or fewer of the old one."""
    was = Sample(answered=answered, failed=min(old, answered), late=0)
    new = Sample(answered=answered, failed=min(failed, answered), late=min(late, answered))
    more_failed = Sample(answered=answered, failed=min(failed + more, answered), late=new.late)
    if worse(was, new, MARGINS):
        assert worse(was, more_failed, MARGINS)
        assert worse(Sample(answered=answered), new, MARGINS)
