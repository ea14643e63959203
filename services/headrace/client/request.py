"""A request from the words that a caller has for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from headrace.contract.errors import InvalidRequest
from headrace.contract.inference_wire import DEFAULT_TENANT
from headrace.contract.requests import ChatMessage, Request
from headrace.contract.values import Priority, Sampling, Task

_LARGEST = 2**32 - 1


class Ask(TypedDict, total=False):
    """What can be asked for besides the model. Either `prompt` or `messages` is needed; all else has a default."""

    prompt: str
    """Given to the model as it is."""
    messages: Sequence[ChatMessage | Mapping[str, str]]
    """A chat, rendered by the model's template; a mapping has `role` and `content`."""
    priority: Priority | str
    """`realtime`, `high`, `normal` (the default) or `batch`."""
    max_tokens: int
    temperature: float
    """0, the default, is greedy."""
    top_k: int
    top_p: float
    repetition_penalty: float
    ignore_end: bool
    """End tokens are never chosen: for measurements."""
    stop: Sequence[str]
    tenant: str
    request_id: str
    """A ULID or UUIDv7, so that a request sent twice is not done twice. Default: the gateway makes one."""
    timeout_s: float
    """How long from now the answer is of use. Default: for ever."""


class TranslationAsk(Ask, total=False):
    """What can be asked of a model that translates."""

    source_language: str
    """Where the model has several, as it names them."""
    target_language: str
    beam_size: int
    """1, the default, streams; with more the best of so many hypotheses comes as a whole."""


class AnyAsk(TranslationAsk, total=False):
    """What can be submitted, to models of every task."""

    task: Task | str
    """`generate` (the default), `embed` or `translate`."""
    texts: Sequence[str]
    """To embed."""


def request_of(model: str, ask: AnyAsk | TranslationAsk | Ask) -> Request:
    """The request that `ask` describes. The gateway checks it; InvalidRequest is raised for what cannot be sent."""
    return Request(
        id=ask.get("request_id", ""),
        tenant=ask.get("tenant", DEFAULT_TENANT),
        model=model,
        priority=_priority(ask.get("priority", Priority.NORMAL)),
        prompt=ask.get("prompt", ""),
        messages=tuple(_message(index, message) for index, message in enumerate(ask.get("messages") or ())),
        sampling=Sampling(
            temperature=ask.get("temperature", 0.0),
            top_k=_count("sampling.top_k", ask.get("top_k", 0)),
            top_p=ask.get("top_p", 1.0),
            repetition_penalty=ask.get("repetition_penalty", 1.0),
            ignore_end=ask.get("ignore_end", False),
            beam_size=_count("sampling.beam_size", int(_word(ask, "beam_size", 1))),
        ),
        task=_task(_word(ask, "task", Task.GENERATE)),
        texts=_texts(_word(ask, "texts", ())),
        source_language=str(_word(ask, "source_language", "")),
        target_language=str(_word(ask, "target_language", "")),
        max_tokens=_count("max_tokens", ask.get("max_tokens", 0)),
        stop=_stop(ask.get("stop", ())),
    )


def _word(ask: Mapping[str, Any], key: str, default: Any) -> Any:
    """What only some tasks know."""
    return ask.get(key, default)


def _task(word: Task | str) -> Task:
    known = {task.value: task for task in Task}
    if isinstance(word, Task):
        return word
    if word not in known:
        raise InvalidRequest("task", f"must be one of {', '.join(known)} (was {word[:40]!r})")
    return known[word]


def _texts(texts: Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _priority(word: Priority | str) -> Priority:
    if isinstance(word, Priority):
        return word
    known = {priority.label: priority for priority in Priority}
    if word not in known:
        raise InvalidRequest("priority", f"must be one of {', '.join(known)} (was {word[:40]!r})")
    return known[word]


def _message(index: int, message: ChatMessage | Mapping[str, str]) -> ChatMessage:
    if isinstance(message, ChatMessage):
        return message
    try:
        return ChatMessage(role=message["role"], content=message["content"])
    except (KeyError, TypeError):
        raise InvalidRequest(f"messages[{index}]", "must have role and content") from None


def _stop(stop: Sequence[str]) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _count(field: str, number: int) -> int:
    if not 0 <= number <= _LARGEST:
        raise InvalidRequest(field, f"must lie in 0 … {_LARGEST} (was {number})")
    return number
