"""What a request that is taken over has come to: as far as the clients of its gateways have it.

Asking a gateway also fences the router that had the request: from then on the gateway takes its tokens from here alone.
So all gateways are asked, even where the other router has handed over all that it had.
"""

from __future__ import annotations

import asyncio

from headrace.contract.deliver import HeldStream
from headrace.router.gateways import Gateways
from headrace.router.ledger import Record


async def recall(record: Record, gateways: Gateways, wait_s: float) -> None:
    """Asks the gateways that hold clients of the request, for `wait_s` at most, and lets it go on from the longest
    output that one of them, or the router that handed it over, has from index 0 on.

    A gateway that says that nobody waits there gets no tokens. One that does not answer counts with what it told last.
    """
    asked = record.followers | gateways.holders(record)
    if not asked:
        return
    asking = {
        gateway_id: asyncio.create_task(gateways.recall(gateway_id, record), name=f"recall {record.id}")
        for gateway_id in asked
    }
    try:
        await asyncio.wait(asking.values(), timeout=wait_s)
    finally:
        for task in asking.values():
            task.cancel()
    for gateway_id, task in asking.items():
        if task.done() and not task.cancelled():
            held = task.result()
            if held is None:
                record.followers.discard(gateway_id)
        else:
            held = gateways.held(gateway_id, record)
        if held is not None:
            _go_on_from(record, held)


def _go_on_from(record: Record, held: HeldStream) -> None:
    output = held.output
    if (
        output is not None
        and held.tenant == record.tenant
        and held.first_index == 0
        and held.next_index > record.next_index
    ):
        record.go_on_from(output)
        record.model = held.model or record.model
