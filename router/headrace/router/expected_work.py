"""How long a request of a model keeps a lane, also where the model has not run yet: placement weighs models by it.

As this router has seen it; else as it has seen of another version of the same name; else a guess by the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from headrace.contract.references import parse_reference
from headrace.contract.values import Task

GUESSED_S: Mapping[Task, float] = MappingProxyType({Task.GENERATE: 1.0, Task.TRANSLATE: 1.0, Task.EMBED: 0.1})
"""What generates reads its weights once for each token, what embeds once for all."""


def expected_work_s(
    reference: str, seen_s: Callable[[str], float], others: Iterable[str], task: Task | None
) -> float:
    """Seconds of a lane. `seen_s` gives what was seen of a reference, 0 where nothing was; `others` are the references
    that are known, `task` is what the model is for, None where that is not known yet.
    """
    if (own_s := seen_s(reference)) > 0:
        return own_s
    name = parse_reference(reference).name
    alike = (seen_s(other) for other in sorted(others) if parse_reference(other).name == name)
    return next((seconds for seconds in alike if seconds > 0), GUESSED_S[task or Task.GENERATE])
