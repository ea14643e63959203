"""What became of the places of a batch: the engine decodes its entries in lockstep.

It prefills together only as far as the shortest prompt reaches, works the rest of a longer one in token by token, and
goes on until the last entry has ended. So of places times steps some make a token, some work in a prompt, and some are
empty. A prompt of one token is decoded with its like alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """An entry's way through its batch, in tokens."""

    prompt: int
    """What the engine was given."""
    made: int
    """What it made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Of a batch: `output` + `padding` + `ended` = places times `steps`."""

    steps: int = 0
    output: int = 0
    padding: int = 0
    ended: int = 0


def spent(ways: Iterable[Way]) -> Use:
    """What became of all places of a batch with these entries."""
    every = tuple(ways)
    single = _group([way for way in every if way.prompt == 1])
    longer = _group([way for way in every if way.prompt > 1])
    return Use(
        steps=single.steps + longer.steps,
        output=single.output + longer.output,
        padding=single.padding + longer.padding,
        ended=single.ended + longer.ended,
    )


def _group(ways: list[Way]) -> Use:
    if not ways:
        return Use()
    shortest = min(way.prompt for way in ways)
    steps = max((way.prompt - shortest + way.made for way in ways if way.made), default=0)
    output = sum(way.made for way in ways)
    # One that was ended before its first token may not have come to the end of its prompt.
    padding = sum(min(way.prompt - shortest, steps) for way in ways)
    return Use(steps=steps, output=output, padding=padding, ended=len(ways) * steps - output - padding)
