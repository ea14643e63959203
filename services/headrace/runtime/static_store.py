"""The static prompts in the KV bucket `headrace_models`."""

from __future__ import annotations

import structlog
from nats.js import JetStreamContext

from headrace.contract.errors import MalformedMessage, Unavailable
from headrace.contract.static import (
    STATIC_PREFIX,
    StaticPrompts,
    check_statics,
    decode_statics,
    encode_statics,
)
from headrace.contract.subjects import MODELS_BUCKET
from headrace.runtime.alias_store import TRIES
from headrace.runtime.bucket import Bucket, Changed

log = structlog.get_logger(__name__)


class StaticStore:
    """Reads and replaces them. All methods raise Unavailable where the broker does not answer."""

    def __init__(self, js: JetStreamContext) -> None:
        self._bucket = Bucket(js, MODELS_BUCKET)

    async def list(self) -> tuple[StaticPrompts, ...]:
        """By model; what makes no sense is left out."""
        found = []
        for key, entry in (await self._bucket.read_all(STATIC_PREFIX)).items():
            model = key.removeprefix(STATIC_PREFIX)
            try:
                found.append(decode_statics(model, entry.value or b""))
            except MalformedMessage as error:
                log.warning("static_prompts.malformed", model=model[:80], problem=str(error))
        return tuple(found)

    async def set(self, statics: StaticPrompts) -> None:
        """Replaces those of a model; none removes the key. Raises InvalidRequest."""
        check_statics(statics)
        key = STATIC_PREFIX + statics.model
        for _ in range(TRIES):
            entry = await self._bucket.read(key)
            try:
                if statics.prompts:
                    await self._bucket.write(key, encode_statics(statics), entry.revision)
                elif entry.value is not None:
                    await self._bucket.remove(key, entry.revision)
            except Changed:
                continue
            return
        raise Unavailable(
            "static prompts", f"those of {statics.model} are being changed by others; try again"
        )
