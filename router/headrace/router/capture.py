"""Content in traces: off, unless an operator names the tenants; then redacted, cut, and said at every start."""

from __future__ import annotations

import json
import re

import structlog

from headrace.contract.requests import Request
from headrace.runtime.settings_traces import TraceSettings

log = structlog.get_logger(__name__)

REDACTED = "(redacted)"
_LOOK_BEYOND = 4
"""Times the limit that is searched for what is to be redacted: the rest would be cut anyway."""
_ROLE = 20
"""Characters of a role: there are few, and they are short."""


class Capture:
    """What of a request's content goes into its trace."""

    def __init__(self, settings: TraceSettings) -> None:
        self._tenants = frozenset(settings.capture_tenants)
        self._patterns = tuple(re.compile(pattern) for pattern in settings.capture_redact)
        self._limit = settings.capture_max_chars

    def announce(self) -> None:
        """Says at the start whose content is captured, where anybody's is."""
        if self._tenants:
            log.warning(
                "content.captured",
                tenants=sorted(self._tenants),
                redactions=len(self._patterns),
                max_chars=self._limit,
                remedy="prompts and outputs of these tenants are in traces; unset traces.capture_tenants to end it",
            )

    def wants(self, tenant: str) -> bool:
        """Whether anything of that tenant is captured."""
        return tenant in self._tenants

    def prompt(self, request: Request) -> str:
        """What was asked, as the conventions write it."""
        asked = [(message.role, message.content) for message in request.messages]
        if request.prompt:
            asked.append(("user", request.prompt))
        asked.extend(("user", text) for text in request.texts)
        left, kept = self._limit, []
        for role, text in asked:
            if left <= 0:
                break  # the limit is for all of them
            kept.append(_message(role[:_ROLE], self._kept(text, left)))
            left -= max(1, len(text))
        return json.dumps(kept, ensure_ascii=False)

    def output(self, text: str) -> str:
        """What was answered, likewise."""
        return json.dumps([_message("assistant", self._kept(text, self._limit))], ensure_ascii=False)

    def _kept(self, text: str, limit: int) -> str:
        text = text[: _LOOK_BEYOND * self._limit]
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        more = len(text) - limit
        return text if more <= 0 else f"{text[:limit]}… ({more} more)"


def _message(role: str, text: str) -> dict[str, object]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
