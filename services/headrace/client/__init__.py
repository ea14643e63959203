"""The Python client.

- **client** (`client`): one connection to a gateway, and what can be asked of it.
- **admin** (`admin`): the same for operators.
- **failures** (`failures`): what a gateway refused or a request failed with, as an error of the tree.

These names are what a program imports:

    from headrace.client import HeadraceClient, Outcome, TokenChunk
"""

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Accepted, Outcome, Priority, QueuePosition, TokenChunk

__all__ = [
    "Accepted",
    "AdminClient",
    "HeadraceClient",
    "HeadraceError",
    "Outcome",
    "Priority",
    "QueuePosition",
    "TokenChunk",
]
