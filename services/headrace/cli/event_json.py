"""What happens to a request, as JSON objects for other programs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from headrace.contract.errors import HeadraceError
from headrace.contract.values import Accepted, Outcome, QueuePosition, TokenChunk


def event_json(event: Accepted | QueuePosition | TokenChunk | Outcome) -> str:
    """One line. `event` says which: accepted, queued, tokens, finished; an outcome's text is among the tokens."""
    match event:
        case Accepted():
            position = dataclasses.asdict(event.position)
            return _line(
                {"event": "accepted", "request_id": event.request_id, "model": event.model, **position}
            )
        case QueuePosition():
            return _line({"event": "queued", **dataclasses.asdict(event)})
        case TokenChunk():
            return _line({"event": "tokens", **dataclasses.asdict(event)})
        case Outcome():
            return _line({"event": "finished", **_outcome(event)})


def outcome_json(outcome: Outcome) -> str:
    """An outcome, whole."""
    made = {"text": outcome.text, "token_ids": outcome.token_ids, "embeddings": embeddings_of(outcome)}
    return _line({**_outcome(outcome), **made})


def embeddings_of(outcome: Outcome) -> list[list[float]]:
    """The vectors with as many digits as a 32-bit float has."""
    return [[float(f"{number:.8g}") for number in vector] for vector in outcome.embeddings]


def error_json(error: HeadraceError) -> str:
    """How a request ended that did not end well."""
    of = {"request_id": error.request_id} if error.request_id else {}
    return _line({"event": "error", "code": error.code, "message": str(error), **of})


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "request_id": outcome.request_id,
        "outcome": outcome.kind.value,
        "model": outcome.model,
        "earlier_models": outcome.earlier_models,
        "finish_reason": outcome.finish_reason.value if outcome.finish_reason else None,
        "failure": dataclasses.asdict(outcome.failure) if outcome.failure else None,
        "usage": dataclasses.asdict(outcome.usage),
    }


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False)
