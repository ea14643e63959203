"""Settings of the model store and of where models go."""

from __future__ import annotations

from pydantic import Field

from headrace.runtime.settings_nats import GIB, MIB
from headrace.runtime.settings_section import Seconds, Section


class StoreSettings(Section):
    """What models may take of the disk. Checked before a model is fetched."""

    max_bytes: int | None = Field(
        default=None,
        ge=MIB,
        description="Bytes of all models in the store. When a model that is fetched needs more, the longest unused ones"
        " that were fetched go first, never what is in use, wanted, or has a name here. None: as many as fit.",
    )
    min_free_bytes: int = Field(
        default=GIB,
        ge=0,
        description="Bytes of the disk that fetched models leave to others.",
    )


class PlacementSettings(Section):
    """Which nodes get which of the models that are wanted, where memory is short."""

    swap: float = Field(
        default=2.0,
        ge=1,
        le=1_000,
        description="A model takes another's place where the work that waits for it exceeds what waits for that by so"
        " many times its load time: less, and models would come and go.",
    )
    residency_s: Seconds = Field(
        default=60.0, description="Seconds that a model stays on a node before another takes its place."
    )
    grace_s: Seconds = Field(
        default=10.0,
        description="Seconds that a node may be away before its models go to others: a restart takes less.",
    )
