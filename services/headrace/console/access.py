"""Who may see the console, who may act through it, and what its pages may do."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from ipaddress import ip_address

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.contract.errors import NotAuthenticated, NotPermitted

_SCHEME = "Bearer "
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

# Nothing from elsewhere, nothing inline, and no frame around it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Operators:
    """Knows an operator by a token in a header. Browsers send none by themselves, so no other page can act for one."""

    def __init__(self, token: SecretStr | None) -> None:
        """None: nobody is one."""
        self._token = token

    @property
    def any(self) -> bool:
        """Whether anybody can be one."""
        return self._token is not None

    def check(self, request: Request) -> None:
        """Raises NotPermitted where nobody may, NotAuthenticated where this one may not."""
        if self._token is None:
            raise NotPermitted("this console only shows; set console.token, and its operators may act")
        brought = request.headers.get("authorization", "")
        expected = _SCHEME + self._token.get_secret_value()
        if not hmac.compare_digest(brought.encode(), expected.encode()):
            problem = "is not the console's" if brought else "is missing"
            raise NotAuthenticated(f"the operator's token {problem}: `authorization: Bearer <token>`")


class Guarded:
    """Refuses requests for hosts that are not ours, and tells browsers what the pages may do."""

    def __init__(self, app: ASGIApp, *, host: str, names: Iterable[str]) -> None:
        """`host` is the address listened on, `names` those it is reached by; see the setting console.hosts."""
        self._app = app
        self._names = frozenset(name.lower() for name in names)
        if not self._names and is_loopback(host):
            self._names = _OWN_NAMES | {host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        name = _name(Headers(scope=scope).get("host", ""))
        if self._names and name not in self._names:
            text = "this console is not reached by that name; console.hosts lists those it is\n"
            await PlainTextResponse(text, status_code=421)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)


def _name(host: str) -> str:
    """Of a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
