"""Settings of the schedule: the constants of the router's policy."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from headrace.contract.values import Priority
from headrace.runtime.settings_section import Seconds, Section, split_pairs

_CLASSES = tuple(priority.label for priority in Priority)


def _classes(value: Mapping[str, float]) -> Mapping[str, float]:
    if strange := sorted(set(value) - set(_CLASSES)):
        raise ValueError(f"{strange[0]!r} is no class; there are {', '.join(_CLASSES)}")
    return value


Positive = Annotated[float, Field(gt=0, le=1e6)]
Objectives = Annotated[Mapping[str, Seconds], BeforeValidator(split_pairs), AfterValidator(_classes)]
Weights = Annotated[Mapping[str, Positive], BeforeValidator(split_pairs)]


class ScheduleSettings(Section):
    """What the router orders, groups and refuses requests by."""

    first_token_s: Objectives = Field(
        default_factory=dict,
        description="Objective for the seconds from acceptance to the first token, as class=seconds with commas"
        " between. A request that cannot meet it any more is refused with a time to try again. A class that is not"
        " named has none, and waits as long as it takes.",
    )
    token_s: Objectives = Field(
        default_factory=dict,
        description="Objective for the seconds per output token after the first, as class=seconds with commas"
        " between: batches grow no larger than it allows.",
    )
    patience: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="The part of the time to its first token for which a request with an objective waits for a lane"
        " to become free by itself, before less urgent work is paused for it.",
    )
    ageing_s: Seconds = Field(
        default=600.0,
        description="Seconds of waiting after which a request counts as one class more urgent, so that nothing"
        " starves. Shorter lets a backlog of batch work hold up urgent requests sooner.",
    )
    fairness_slack: float = Field(
        default=5.0,
        ge=0,
        le=1e6,
        description="How far a tenant may be ahead of the one that had least, in the largest requests. 0 is strict"
        " fair share; more leaves room for deadlines and for batches of equal length.",
    )
    tenant_weights: Weights = Field(
        default_factory=dict,
        description="Shares of tenants, as tenant=weight with commas between; 1 where one is not named.",
    )
    prompt_weight: float = Field(
        default=1.0, gt=0, le=1e6, description="What a tenant is charged for a token of a prompt."
    )
    output_weight: float = Field(
        default=2.0, gt=0, le=1e6, description="What a tenant is charged for a token of output."
    )
    max_skew: int = Field(
        default=64,
        ge=0,
        le=65_536,
        description="Tokens by which prompts of one batch may differ: the longer ones are worked in token by token."
        " 0: only equal lengths share a batch, and greedy output depends on the prompt alone.",
    )
    max_prefill_s: Seconds = Field(
        default=0.5,
        description="Seconds that the prefill of a batch of several may take where its worker runs no other batch that"
        " could be paused meanwhile: a prefill cannot be broken off, so urgent work may have to wait for it.",
    )
    group_gain: float = Field(
        default=1.02,
        ge=1,
        le=10,
        description="By how much a further request has to shorten the work of a batch to be taken along.",
    )
    company_s: float = Field(
        default=1.0,
        ge=0,
        le=600,
        description="Seconds that a batch of several requests to embed may take where company saves little by the"
        " measured cost: more texts sorted together are padded less, and each request waits for the end of all.",
    )
    merge_gain: float = Field(
        default=1.3,
        ge=0,
        le=100,
        description="By how much it has to shorten the work that is left to stop a batch and let it go on as a larger"
        " one with those that wait: what its members made is prefilled anew. 0: never. Nor with a max_skew of 0.",
    )
    moves: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="How often a request goes on in a larger batch in the midst of its output.",
    )
    slower: float = Field(
        default=1.1,
        ge=1,
        le=100,
        description="A worker that takes so many times as long as the fastest is slow: it takes only what it"
        " finishes no later than a faster one would.",
    )


def by_priority(objectives: Mapping[str, float]) -> tuple[float, ...]:
    """Seconds by Priority; inf where a class has no objective."""
    return tuple(objectives.get(label, inf) for label in _CLASSES)
