"""What happens to a request when its last client here has left."""

from __future__ import annotations

from headrace.contract.values import OutcomeKind
from headrace.gateway.audience import Audience
from headrace.gateway.cancel import Cancels
from headrace.gateway.routers import Routers


class Departures:
    """Ends the requests that nobody is to have, and tells the routers to send no more of the others."""

    def __init__(self, cancels: Cancels, routers: Routers) -> None:
        self._cancels = cancels
        self._routers = routers

    def departed(self, audience: Audience, over: bool) -> None:
        """`over`: its outcome had arrived. Does not wait."""
        forsaken = None if over or audience.kept else audience.forsaken
        if forsaken is not None:
            self._cancels.give_up(
                audience.tenant,
                audience.request_id,
                audience.fingerprint,
                expired=forsaken is OutcomeKind.EXPIRED,
            )
        if audience.told or not (over or forsaken):
            self._routers.tell(audience.tenant, audience.request_id)
