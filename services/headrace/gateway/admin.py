"""What operators ask of the mesh at this gateway, and what it answers for itself."""

# ruff: noqa: N802 — the proto names the methods
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from headrace.contract import alias_wire, static_wire
from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.admin_wire import (
    decode_drain,
    decode_set_log_level,
    drain_response,
    log_level_response,
    members_response,
)
from headrace.contract.log_level import LogLevel
from headrace.contract.span_wire import (
    decode_get_trace,
    decode_list_traces,
    trace_response,
    traces_response,
)
from headrace.gateway.aliases import Aliases
from headrace.gateway.guard import Guard
from headrace.gateway.members import Members
from headrace.gateway.recent import Recent
from headrace.gateway.streams import Streams
from headrace.runtime.grpc_handlers import ServicerContext
from headrace.runtime.log_level import change_level
from headrace.runtime.shutdown import Shutdown
from headrace.v1.admin_pb2_grpc import AdminServiceServicer

NAME = "headrace.v1.AdminService"


class AdminService(AdminServiceServicer):
    """AdminService. Holds no state of its own."""

    def __init__(self, guard: Guard, members: Members, recent: Recent, aliases: Aliases) -> None:
        self._guard = guard
        self._members = members
        self._recent = recent
        self._aliases = aliases

    async def ListMembers(self, request: Any, context: ServicerContext) -> Any:
        """Whoever answers."""
        self._guard.check(context)
        return members_response(await self._members.gather())

    async def Drain(self, request: Any, context: ServicerContext) -> Any:
        """One of them."""
        self._guard.check(context)
        return drain_response(await self._members.drain(*decode_drain(request)))

    async def SetLogLevel(self, request: Any, context: ServicerContext) -> Any:
        """Of one of them."""
        self._guard.check(context)
        return log_level_response(await self._members.log_level(*decode_set_log_level(request)))

    async def ListTraces(self, request: Any, context: ServicerContext) -> Any:
        """The latest requests."""
        self._guard.check(context)
        limit, failed_only = decode_list_traces(request)
        return traces_response(await self._recent.list(limit, failed_only=failed_only))

    async def GetTrace(self, request: Any, context: ServicerContext) -> Any:
        """One of them."""
        self._guard.check(context)
        return trace_response(self._recent.get(decode_get_trace(request)))

    async def ListAliases(self, request: Any, context: ServicerContext) -> Any:
        """All, with what routers counted."""
        self._guard.check(context)
        return alias_wire.aliases_response(await self._aliases.list())

    async def SetAlias(self, request: Any, context: ServicerContext) -> Any:
        """Made or pointed elsewhere."""
        self._guard.check(context)
        name, model, fallbacks, force = alias_wire.decode_set_alias(request)
        changed = await self._aliases.point(name, model, fallbacks, force=force)
        return alias_wire.set_alias_response(*changed)

    async def RemoveAlias(self, request: Any, context: ServicerContext) -> Any:
        """Gone."""
        self._guard.check(context)
        return alias_wire.remove_alias_response(*await self._aliases.remove(request.name))

    async def SetCanary(self, request: Any, context: ServicerContext) -> Any:
        """A share answered by a new version."""
        self._guard.check(context)
        name, model, share, force = alias_wire.decode_share(request)
        changed = await self._aliases.canary(name, model, share, force=force)
        return alias_wire.set_canary_response(*changed)

    async def Promote(self, request: Any, context: ServicerContext) -> Any:
        """All answered by it."""
        self._guard.check(context)
        return alias_wire.promote_response(*await self._aliases.promote(request.name, force=request.force))

    async def RollBack(self, request: Any, context: ServicerContext) -> Any:
        """As before."""
        self._guard.check(context)
        return alias_wire.roll_back_response(*await self._aliases.roll_back(request.name))

    async def SetShadow(self, request: Any, context: ServicerContext) -> Any:
        """Copies for a version."""
        self._guard.check(context)
        name, model, share, force = alias_wire.decode_share(request)
        changed = await self._aliases.shadow(name, model, share, force=force)
        return alias_wire.set_shadow_response(*changed)

    async def ListStaticPrompts(self, request: Any, context: ServicerContext) -> Any:
        """All, with what they spared."""
        self._guard.check(context)
        return static_wire.statics_response(*await self._aliases.statics())

    async def SetStaticPrompts(self, request: Any, context: ServicerContext) -> Any:
        """Those of a model."""
        self._guard.check(context)
        asked = static_wire.decode_set_statics(request)
        return static_wire.set_statics_response(await self._aliases.set_statics(asked))


class Own:
    """This gateway as a member."""

    def __init__(
        self,
        gateway_id: str,
        *,
        address: Callable[[], str],
        metrics: str,
        streams: Streams,
        shutdown: Shutdown,
        grace_s: float,
        log_level: str,
    ) -> None:
        """`log_level` is the one that the settings ask for."""
        self._gateway_id = gateway_id
        self._address = address
        self._metrics = metrics
        self._started_s = time.time()
        self._streams = streams
        self._shutdown = shutdown
        self._grace_s = grace_s
        self._log_level_set = log_level

    def member(self) -> Member:
        """As it is now."""
        return Member(
            kind=MemberKind.GATEWAY,
            id=self._gateway_id,
            address=self._address(),
            started_s=self._started_s,
            draining=self._shutdown.draining,
            requests=len(self._streams.waiting()),
            metrics=self._metrics,
        )

    def members(self) -> tuple[Member]:
        """It alone."""
        return (self.member(),)

    def drain(self, kind: MemberKind, member_id: str) -> DrainBegun | None:
        """Has it drain and end; None where another is meant."""
        if kind is not MemberKind.GATEWAY or member_id != self._gateway_id:
            return None
        begun = DrainBegun(member=self.member(), grace_s=self._grace_s)
        self._shutdown.request("an operator asked for it")
        return begun

    def log_level(self, kind: MemberKind, member_id: str, level: LogLevel) -> Member | None:
        """Has it log so much; None where another is meant."""
        if kind is not MemberKind.GATEWAY or member_id != self._gateway_id:
            return None
        change_level(level, self._log_level_set)
        return self.member()
