"""Settings of roll-outs: when a version of an alias is left for another one."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from headrace.runtime.settings_section import Seconds, Section


class RolloutSettings(Section):
    """When a fallback answers, and when a new version is rolled back."""

    fallback_wait_s: Seconds = Field(
        default=10.0,
        description="Seconds of expected wait for a lane at which a version counts as overloaded, and a fallback of"
        " its alias answers if that is free sooner. A request's deadline and its class's objective count, too, where"
        " they are shorter.",
    )
    version_wait_s: Seconds = Field(
        default=1.0,
        description="Seconds that a request which has begun waits for a worker with its version, before it goes on at"
        " another version of its alias. Workers that lost their router come to the next one within that.",
    )
    auto_roll_back: bool = Field(
        default=True,
        description="Whether a router ends a canary by itself that does worse than the stable version. The margins"
        " below say what worse is.",
    )
    min_requests: int = Field(
        default=50,
        ge=1,
        le=1_000_000,
        description="Requests that the new version must have answered here before it is judged. Fewer say too little.",
    )
    error_margin: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="By how much the share of requests that fail or lose an attempt may be larger with the"
        " new version.",
    )
    late_margin: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="By how much the share of first tokens that miss their objective may be larger with the new"
        " version.",
    )
    first_token_s: Seconds = Field(
        default=5.0,
        description="Objective for the first token that versions are compared by, in classes for which"
        " schedule.first_token_s names none. Nothing is refused by it.",
    )
    checks: int = Field(
        default=3,
        ge=1,
        le=1_000,
        description="Judgements in a row, each after further answers of the new version, that must find it worse"
        " before it is rolled back: one bad moment is no reason.",
    )
    check_every: int = Field(
        default=10,
        ge=1,
        le=1_000_000,
        description="Answers of the new version between two judgements.",
    )
    memory: int = Field(
        default=1_000,
        ge=2,
        le=10_000_000,
        description="Requests after which what a version did before counts half: an old trouble is forgotten."
        " At least twice min_requests.",
    )

    @model_validator(mode="after")
    def _remembers_enough(self) -> Self:
        if self.memory < 2 * self.min_requests:
            raise ValueError(f"memory must be at least twice min_requests, {2 * self.min_requests}")
        return self
