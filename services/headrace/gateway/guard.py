"""Who may call AdminService."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import unquote

from pydantic import SecretStr

from headrace.contract.errors import NotAuthenticated, NotPermitted
from headrace.runtime.grpc_handlers import ServicerContext

_SCHEME = "Bearer "


class Guard:
    """With a token, whoever brings it; without one, whoever calls from this machine."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = token

    def check(self, context: ServicerContext) -> None:
        """Raises NotAuthenticated or NotPermitted where the call is not to be answered."""
        if self._token is None:
            if not is_local(context.peer()):
                raise NotPermitted(
                    "without gateway.admin_token, only calls from the gateway's own machine are answered"
                )
            return
        brought = dict(context.invocation_metadata() or ()).get("authorization", "")
        expected = _SCHEME + self._token.get_secret_value()
        if not hmac.compare_digest(str(brought).encode(), expected.encode()):
            problem = "is not the gateway's" if brought else "is missing"
            raise NotAuthenticated(
                f"the token of gateway.admin_token {problem}: `authorization: Bearer <token>`"
            )


def is_local(peer: str) -> bool:
    """Whether a peer, as gRPC writes it, is on this machine: `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`, `unix:…`."""
    family, _, where = unquote(peer).partition(":")
    if family in ("unix", "unix-abstract"):
        return True
    host = where.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
