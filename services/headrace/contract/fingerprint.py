"""Whether two requests of one id ask for the same: a digest of what decides the answer."""

from __future__ import annotations

import hashlib
import json
import struct

from headrace.contract.requests import Request


def fingerprint(request: Request) -> str:
    """SHA-256, as 64 hexadecimal digits, of what `request` asks for, and of whom.

    The content counts: tenant, model, priority, task, input, sampling, max_tokens, stop strings. The way to the
    consumer does not: id, deadline, gateway, reply subject, keep. Of a request whose payload lies elsewhere, take it
    when that has been read: a reference says nothing of what is asked.

    It is kept with durable outcomes, so it stays the same from version to version: a field that comes to requests is
    added only where it is not its default.
    """
    sampling = request.sampling
    content: list[object] = [
        request.tenant,
        request.model,
        request.priority.label,
        request.task.value,
        request.prompt,
        [[message.role, message.content] for message in request.messages],
        _single(sampling.temperature),
        sampling.top_k,
        _single(sampling.top_p),
        _single(sampling.repetition_penalty),
        sampling.ignore_end,
        request.max_tokens,
        list(request.stop),
    ]
    if request.texts:
        content.append(["texts", *request.texts])
    if request.source_language or request.target_language:
        content.append(["languages", request.source_language, request.target_language])
    if sampling.beam_size != 1:
        content.append(["beams", sampling.beam_size])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def fingerprint_of_unread(body: bytes) -> str:
    """What a message that holds no request has in the place of a fingerprint: as long as one, and no request's."""
    return hashlib.sha256(b"no request\0" + body).hexdigest()


def is_fingerprint(text: str) -> bool:
    """Whether `text` can be one: gateways send theirs with the message."""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _single(value: float) -> str:
    """As the wire has it, single precision: 0.7 is the same number before and after a hop."""
    return struct.pack(">f", value + 0.0).hex()
