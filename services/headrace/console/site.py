"""What the console answers over HTTP.

GET  /                          the page
GET  /assets/<name>             its files
GET  /api/events                server-sent events: the state, then what changes
GET  /api/state                 the state once
GET  /api/dead                  the newest dead letters, ?code= &model= &tenant=
POST /api/dead/<number>/replay  asks one again; operators only
GET  /api/operator              204 for an operator
GET  /healthz                   200 while it runs
"""

from __future__ import annotations

import asyncio
from typing import Any

from nats.aio.client import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from headrace.console.access import Guarded, Operators
from headrace.console.assets import Assets
from headrace.console.dead_letters import letter_number, list_letters, replay_letter
from headrace.console.events import EventStreams
from headrace.console.failures import answer_failure
from headrace.console.live import Live
from headrace.console.traces import Traces
from headrace.contract.errors import HeadraceError, Unavailable
from headrace.runtime.settings import ConsoleSettings


class Site:
    """The pages of one console."""

    def __init__(
        self,
        live: Live,
        nc: Client,
        *,
        settings: ConsoleSettings,
        operators: Operators,
        traces: Traces,
        ending: asyncio.Event,
    ) -> None:
        self._live = live
        self._nc = nc
        self._settings = settings
        self._operators = operators
        self._traces = traces
        self._assets = Assets()
        self._events = EventStreams(live, max_clients=settings.max_clients, ending=ending)

    @property
    def pages(self) -> int:
        """Those that are open now."""
        return self._events.open

    def app(self) -> ASGIApp:
        """As a server runs it."""
        routes = [
            Route("/", self._page),
            Route("/assets/{name}", self._asset),
            Route("/api/events", self._events),
            Route("/api/state", self._state),
            Route("/api/dead", self._dead),
            Route("/api/dead/{number}/replay", self._replay, methods=["POST"]),
            Route("/api/traces", self._recent),
            Route("/api/traces/{id}", self._trace),
            Route("/api/operator", self._operator),
            Route("/healthz", self._healthz),
        ]
        handlers: Any = {HeadraceError: answer_failure}
        site = Starlette(routes=routes, exception_handlers=handlers)
        return Guarded(site, host=self._settings.host, names=self._settings.hosts)

    async def _page(self, request: Request) -> Response:
        return self._assets.answer("index.html", request)

    async def _asset(self, request: Request) -> Response:
        return self._assets.answer(request.path_params["name"], request)

    async def _state(self, request: Request) -> Response:
        await self._live.after(0)
        return Response(self._live.message(0, 0), media_type="application/json", headers=_FRESH)

    async def _dead(self, request: Request) -> Response:
        asked = {name: request.query_params.get(name, "") for name in ("code", "model", "tenant")}
        try:
            letters, problem = await list_letters(self._nc, **asked), ""
        except Unavailable as error:  # the page says so where the letters would be, and goes on
            letters, problem = [], str(error)
        return JSONResponse({"letters": letters, "problem": problem}, headers=_FRESH)

    async def _replay(self, request: Request) -> Response:
        self._operators.check(request)
        number = letter_number(request.path_params["number"])
        return JSONResponse(await replay_letter(self._nc, number), headers=_FRESH)

    async def _recent(self, request: Request) -> Response:
        try:
            found = await self._traces.recent(failed_only=request.query_params.get("failed") == "1")
        except HeadraceError as error:  # as with dead letters
            found = {"traces": [], "on": True, "remembered": 0, "dropped": 0, "problem": str(error)}
        return JSONResponse(found, headers=_FRESH)

    async def _trace(self, request: Request) -> Response:
        return JSONResponse(await self._traces.one(request.path_params["id"]), headers=_FRESH)

    async def _operator(self, request: Request) -> Response:
        self._operators.check(request)
        return Response(status_code=204, headers=_FRESH)

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"connected": self._live.picture.connected}, headers=_FRESH)


_FRESH = {"cache-control": "no-store"}
