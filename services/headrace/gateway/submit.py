"""A request that nobody waits for: its outcome is fetched later."""

from __future__ import annotations

from typing import Any

from headrace.contract.inference_wire import submit_response
from headrace.contract.requests import Request
from headrace.gateway.admission import Admission
from headrace.gateway.catalogue import Catalogue
from headrace.gateway.publish import Publisher
from headrace.gateway.tracing import describe_position, describe_request


class Submission:
    """Answers Submit calls."""

    def __init__(self, *, admission: Admission, publisher: Publisher, catalogue: Catalogue) -> None:
        self._admission = admission
        self._publisher = publisher
        self._catalogue = catalogue

    async def submit(self, decoded: Request) -> Any:
        """The response to a request that a client sent, once the broker has the request.

        The call's deadline is that of this answer alone; the request's is its own field.
        """
        admitted = await self._admission.admit(decoded, None)
        request = admitted.request
        describe_request(request, stream=False)
        await self._publisher.publish(admitted)
        position = self._catalogue.position(request.model, request.priority)
        describe_position(position)
        return submit_response(request.id, position, self._catalogue.answering(request.model, request.id))
