"""Names of the objects in the bucket headrace_payloads, which hold what is too large for a message.

    <tenant>/req/<name>                  a request, of the message that refers to it
    <tenant>/res/<request id>-<digits>   an outcome

`name` is its producer's choice. The gateway's are the request's id and digits, so that each try has an object of its
own and none can be guessed. The tenant is that of the message: no request can name another tenant's object.
"""

from __future__ import annotations

import re
import secrets

from headrace.contract.errors import InvalidRequest

MAX_TAIL_LENGTH = 128
_TAIL = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_TAIL_LENGTH}}}")


def new_request_object(tenant: str, request_id: str) -> str:
    """A name for the object of a request, used once."""
    return f"{tenant}/req/{request_id}-{secrets.token_hex(8)}"


def new_result_object(tenant: str, request_id: str) -> str:
    """A name for the object of an outcome, used once: of two routers that both store one, only one's is referred to."""
    return f"{tenant}/res/{request_id}-{secrets.token_hex(8)}"


def is_request_object(name: str, tenant: str) -> bool:
    """Whether a request of `tenant` may refer to this object, and so have it read and removed."""
    return _is_below(f"{tenant}/req/", name)


def is_result_object(name: str, tenant: str) -> bool:
    """Whether an outcome of `tenant` may refer to this object."""
    return _is_below(f"{tenant}/res/", name)


def check_request_object(name: str, tenant: str) -> str:
    """Gives `name` back, or raises InvalidRequest("payload") where no request of `tenant` may refer to it."""
    if not is_request_object(name, tenant):
        raise InvalidRequest(
            "payload",
            f"the object's name must be {tenant}/req/ and 1 to {MAX_TAIL_LENGTH} letters, digits, '_' or '-'",
        )
    return name


def _is_below(folder: str, name: str) -> bool:
    return name.startswith(folder) and _TAIL.fullmatch(name[len(folder) :]) is not None
