"""Whether a new version does so much worse than the old one that it is rolled back.

    share(x)  = x / answered, of failed and of late requests; of the old version 0 while it has answered too few
    worse     = share of the new > share of the old + margin, in failed or in late requests,
                once the new one has answered `min_requests`
    roll back = worse at `checks` checks in a row; there is a check each `check_every` answers of the new version

What a version did long ago counts less: at `memory` answers all that it did counts half. A new version begins with
nothing, also where it was tried before; the old one keeps what it has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How much worse is too much, and how sure one has to be. Each is a setting, `rollout.…`."""

    min_requests: int = 50
    error_margin: float = 0.05
    late_margin: float = 0.1
    checks: int = 3
    check_every: int = 10
    memory: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a version did: counts that fade."""

    answered: float = 0.0
    failed: float = 0.0
    late: float = 0.0

    def plus(self, *, failed: bool, late: bool, memory: int) -> Sample:
        """One more answer."""
        half = 0.5 if self.answered >= memory else 1.0
        return Sample(
            answered=half * self.answered + 1,
            failed=half * self.failed + failed,
            late=half * self.late + late,
        )

    def share(self, count: float, least: int) -> float:
        """The part of its answers that `count` is; 0 where it has answered fewer than `least`."""
        return count / self.answered if self.answered >= least and self.answered > 0 else 0.0


NOTHING = Sample()


def worse(old: Sample, new: Sample, margins: Margins) -> str:
    """By what the new version does worse, for a person; "" where it does not, or has answered too few."""
    least = margins.min_requests
    if new.answered < least:
        return ""
    for word, margin, was, now in (
        ("fail or lose an attempt", margins.error_margin, old.failed, new.failed),
        ("are late with their first token", margins.late_margin, old.late, new.late),
    ):
        before, after = old.share(was, least), new.share(now, least)
        if after > before + margin:
            return f"{after:.0%} of its requests {word}, {before:.0%} before"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A new version beside an old one."""

    old: str
    new: str
    answered: int = 0
    """By the new version since the trial began."""
    until: int = 0
    """After so many answers of it the trial is over; 0 = never."""
    in_a_row: int = 0
    """The last checks, as far as they found it worse."""


@dataclass(slots=True)
class Judge:
    """The versions of one alias. Written by its own methods; `answered` and then `verdict`, for each answer."""

    margins: Margins
    trial: Trial | None = None
    _samples: dict[str, Sample] | None = None

    def tries(self, old: str, new: str, until: int = 0) -> None:
        """From now on `new` is judged beside `old`, for `until` answers of it where that is not 0. Nothing happens
        where these two are judged already.
        """
        if self.trial is not None and (self.trial.old, self.trial.new) == (old, new):
            return
        self.trial = Trial(old=old, new=new, until=until)
        self._samples = {old: self.sample(old)}

    def rests(self) -> None:
        """Nothing is judged."""
        self.trial = None

    def sample(self, version: str) -> Sample:
        return (self._samples or {}).get(version, NOTHING)

    def answered(self, version: str, *, failed: bool, late: bool) -> str:
        """A version has answered; why the new one is to be rolled back now, "" where it is not."""
        samples = self._samples = self._samples if self._samples is not None else {}
        samples[version] = self.sample(version).plus(failed=failed, late=late, memory=self.margins.memory)
        trial = self.trial
        if trial is None or version != trial.new:
            return ""
        trial = replace(trial, answered=trial.answered + 1)
        if 0 < trial.until < trial.answered:
            return ""
        reason = ""
        if trial.answered >= self.margins.min_requests and trial.answered % self.margins.check_every == 0:
            reason = worse(self.sample(trial.old), self.sample(trial.new), self.margins)
            trial = replace(trial, in_a_row=trial.in_a_row + 1 if reason else 0)
        self.trial = trial
        return reason if reason and trial.in_a_row >= self.margins.checks else ""
