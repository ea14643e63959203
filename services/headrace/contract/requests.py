"""A request as the processes hold it, and the limits that its own fields must keep.

Limits that need the model (its name, its context length) are the router's to check.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

from headrace.contract.errors import DeadlinePassed, InvalidRequest
from headrace.contract.values import GREEDY, PayloadReference, Priority, Sampling, Task

MAX_TEMPERATURE = 2.0
MAX_TOP_K = 1000
PENALTY_RANGE = (0.5, 2.0)
MAX_BEAMS = 32
MAX_LANGUAGE = 32
"""Characters: `zho_Hans` is a long one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One unit of work. Its input is `prompt` or `messages`; to embed, `texts`; to translate, `prompt`."""

    id: str
    tenant: str
    model: str
    priority: Priority
    prompt: str = ""
    messages: tuple[ChatMessage, ...] = ()
    sampling: Sampling = GREEDY
    max_tokens: int = 0
    """0 = the default of Limits."""
    stop: tuple[str, ...] = ()
    deadline_s: float | None = None
    """Unix time in seconds."""
    reply_to: str = ""
    gateway: str = ""
    task: Task = Task.GENERATE
    texts: tuple[str, ...] = ()
    """What is to be embedded."""
    source_language: str = ""
    """Of a translation, where the model has several: the prompt's, as the model names it."""
    target_language: str = ""
    keep: bool = False
    """Whether it goes on when its client goes away. Known to the gateway alone."""
    payload: PayloadReference | None = None
    """Where the rest of the request lies, if it is too large for a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may ask for, whatever the model. Settings override each."""

    default_max_tokens: int = 256
    max_tokens: int = 32_768
    max_prompt_bytes: int = 512 * 1024
    """Of the prompt, or of all messages together, as UTF-8."""
    max_messages: int = 1024
    max_role_bytes: int = 64
    max_stop_strings: int = 16
    max_stop_bytes: int = 256
    max_texts: int = 256
    """Of one request to embed."""


def content_field(request: Request) -> str:
    """The field that holds its input."""
    if request.texts:
        return "texts"
    return "messages" if request.messages else "prompt"


def check_request(request: Request, limits: Limits, now_s: float) -> None:
    """Raises InvalidRequest naming the first field that breaks its limit. `now_s` is Unix time."""
    match request.task:
        case Task.GENERATE:
            _check_input(request, limits)
        case Task.EMBED:
            _check_texts(request, limits)
        case Task.TRANSLATE:
            _check_translation(request, limits)
        case _:
            assert_never(request.task)
    if request.task is not Task.EMBED and request.texts:
        raise InvalidRequest("texts", "are for the task embed alone")
    if request.task is not Task.TRANSLATE and (request.source_language or request.target_language):
        field = "source_language" if request.source_language else "target_language"
        raise InvalidRequest(field, "is for the task translate alone")
    _check_sampling(request.sampling)
    _check_beams(request)
    if not 0 <= request.max_tokens <= limits.max_tokens:
        raise InvalidRequest("max_tokens", f"must lie in 1 … {limits.max_tokens} (was {request.max_tokens})")
    _check_stop(request.stop, limits)
    if request.deadline_s is not None and request.deadline_s <= now_s:
        raise DeadlinePassed(now_s - request.deadline_s)


def _check_input(request: Request, limits: Limits) -> None:
    if request.prompt and request.messages:
        raise InvalidRequest("prompt", "give either prompt or messages, not both")
    if request.messages:
        if len(request.messages) > limits.max_messages:
            raise InvalidRequest(
                "messages", f"at most {limits.max_messages} are allowed (were {len(request.messages)})"
            )
        for index, message in enumerate(request.messages):
            if not message.role or len(message.role.encode()) > limits.max_role_bytes:
                raise InvalidRequest(
                    f"messages[{index}].role", f"must be 1 … {limits.max_role_bytes} bytes, such as 'user'"
                )
        if not any(message.content for message in request.messages):
            raise InvalidRequest("messages", "all are empty: nothing to answer")
        size, field = sum(len(m.content.encode()) for m in request.messages), "messages"
    else:
        if not request.prompt:
            raise InvalidRequest("prompt", "is empty: give a prompt or messages")
        size, field = len(request.prompt.encode()), "prompt"
    if size > limits.max_prompt_bytes:
        raise InvalidRequest(field, f"is {size} bytes long; at most {limits.max_prompt_bytes} are allowed")


def _check_texts(request: Request, limits: Limits) -> None:
    if request.prompt or request.messages:
        raise InvalidRequest(
            "prompt" if request.prompt else "messages", "give what is to be embedded as texts"
        )
    if not 1 <= len(request.texts) <= limits.max_texts:
        raise InvalidRequest("texts", f"must be 1 … {limits.max_texts} (were {len(request.texts)})")
    for index, text in enumerate(request.texts):
        if not text:
            raise InvalidRequest(f"texts[{index}]", "is empty")
    size = sum(len(text.encode()) for text in request.texts)
    if size > limits.max_prompt_bytes:
        raise InvalidRequest(
            "texts", f"are {size} bytes long together; at most {limits.max_prompt_bytes} are allowed"
        )


def _check_translation(request: Request, limits: Limits) -> None:
    if request.messages:
        raise InvalidRequest("messages", "give the text to translate as the prompt")
    if not request.prompt:
        raise InvalidRequest("prompt", "is empty: there is nothing to translate")
    if (size := len(request.prompt.encode())) > limits.max_prompt_bytes:
        raise InvalidRequest("prompt", f"is {size} bytes long; at most {limits.max_prompt_bytes} are allowed")
    for field, word in (
        ("source_language", request.source_language),
        ("target_language", request.target_language),
    ):
        if len(word) > MAX_LANGUAGE:
            raise InvalidRequest(field, f"has {len(word)} characters; at most {MAX_LANGUAGE} are allowed")


def _check_beams(request: Request) -> None:
    beams = request.sampling.beam_size
    if not 1 <= beams <= MAX_BEAMS:
        raise InvalidRequest("sampling.beam_size", f"must lie in 1 … {MAX_BEAMS} (was {beams})")
    if beams == 1:
        return
    if request.task is not Task.TRANSLATE:
        raise InvalidRequest(
            "sampling.beam_size", f"must be 1 to {request.task.value}: only translate has beams"
        )
    if not request.sampling.greedy:
        raise InvalidRequest("sampling.beam_size", "several beams and a temperature exclude one another")


def _check_sampling(sampling: Sampling) -> None:
    if not 0 <= sampling.temperature <= MAX_TEMPERATURE:
        raise InvalidRequest("sampling.temperature", f"must lie in 0 … {MAX_TEMPERATURE:g}")
    if not 0 <= sampling.top_k <= MAX_TOP_K:
        raise InvalidRequest("sampling.top_k", f"must lie in 0 … {MAX_TOP_K} (was {sampling.top_k})")
    if not (math.isfinite(sampling.top_p) and 0 < sampling.top_p <= 1):
        raise InvalidRequest("sampling.top_p", "must be above 0 and at most 1")
    low, high = PENALTY_RANGE
    if not low <= sampling.repetition_penalty <= high:
        raise InvalidRequest("sampling.repetition_penalty", f"must lie in {low:g} … {high:g}")


def _check_stop(stop: tuple[str, ...], limits: Limits) -> None:
    if len(stop) > limits.max_stop_strings:
        raise InvalidRequest(
            "stop", f"at most {limits.max_stop_strings} strings are allowed (were {len(stop)})"
        )
    for index, text in enumerate(stop):
        if not 1 <= len(text.encode()) <= limits.max_stop_bytes:
            raise InvalidRequest(f"stop[{index}]", f"must be 1 … {limits.max_stop_bytes} bytes long")
