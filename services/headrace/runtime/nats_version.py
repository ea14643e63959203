"""The versions of nats-server, and the oldest one that Headrace works with."""

from __future__ import annotations

import re
from typing import NamedTuple

from headrace.contract.errors import StartError


class Version(NamedTuple):
    """A version that compares as it should; a pre-release counts as the version it leads to."""

    major: int
    minor: int
    patch: int

    @property
    def text(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


# 2.11 is the first with per-message TTL; 2.9 also refuses several filters per consumer, and republishing without the
# body and limits per subject are younger than many servers in distributions. An old server would accept some of these
# settings and silently ignore them.
REQUIRED = Version(2, 11, 0)


class NatsTooOld(StartError):
    """The server is older than Headrace needs. `found` is the server's own word, `required` the least version."""

    def __init__(self, found: str, required: str = REQUIRED.text) -> None:
        super().__init__(
            f"the NATS server is version {found or 'unknown'}, and Headrace needs {required} or later"
            " (message time-to-live, several filters per consumer, limits per subject)",
            "Update the server, or unset HEADRACE_NATS_URL to use the embedded one",
        )
        self.found = found
        self.required = required


def parse_version(text: str) -> Version | None:
    """The version in `2.11.0-RC.1` or `v2.12.3`; None where there is none."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return Version(*(int(part) for part in found.groups())) if found else None


def check_version(found: str) -> None:
    """Raises NatsTooOld unless `found` is a version that Headrace works with."""
    version = parse_version(found)
    if version is None or version < REQUIRED:
        raise NatsTooOld(found)
