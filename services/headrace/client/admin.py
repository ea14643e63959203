"""A connection to a gateway for operators: who is in the mesh, that one of them is to drain, or to log more.

async with AdminClient("127.0.0.1:7700") as admin:
    for member in await admin.members():
        print(member.kind, member.id, member.requests)
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from headrace.client.gateways import Gateways
from headrace.contract import admin_wire as wire
from headrace.contract import alias_wire, span_wire, static_wire
from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.alias import Alias
from headrace.contract.log_level import LogLevel
from headrace.contract.rollout import AliasState
from headrace.contract.spans import RequestTrace, TraceList
from headrace.contract.static import StaticCounts, StaticPrompts
from headrace.runtime.grpc_tracing import call_metadata
from headrace.runtime.keepalive import CLIENT_KEEPALIVE, Keepalive
from headrace.v1.admin_pb2_grpc import AdminServiceStub

ANSWER_S = 10.0
"""How long a gateway may take to gather what it is asked for."""


class AdminClient:
    """A gateway's AdminService. Use it as `async with`.

    Calls raise errors of `headrace.contract.errors`.
    """

    def __init__(self, address: str, *, token: str = "", keepalive: Keepalive = CLIENT_KEEPALIVE) -> None:
        """`address` is the gateway's `host:port`, or those of several with commas between: where one does not answer,
        the next one is asked. `token` is their `gateway.admin_token`, where they have one. Raises InvalidRequest.

        The token crosses the network as it is: give it only where nobody listens.
        """
        self.address = address
        self._token = token
        self._gateways = Gateways(address, AdminServiceStub, keepalive)
        self._is_open = False

    def __repr__(self) -> str:
        return f"<AdminClient {self.address}{'' if self._is_open else ', closed'}>"

    async def __aenter__(self) -> Self:
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._is_open = False
        await self._gateways.close()

    async def members(self) -> tuple[Member, ...]:
        """The processes that answer now: routers, gateways, workers, each by id."""
        return wire.decode_members_response(await self._ask("ListMembers", wire.encode_list_members()))

    async def drain(self, member_id: str, kind: MemberKind | None = None) -> DrainBegun:
        """Has a member take nothing new, finish or hand on what it has, and end. Returns when it has begun.

        Raises UnknownMember, or InvalidRequest("kind") where members of several kinds have that id.
        """
        return wire.decode_drain_response(await self._ask("Drain", wire.encode_drain(kind, member_id)))

    async def set_log_level(self, member_id: str, level: LogLevel, kind: MemberKind | None = None) -> Member:
        """Has a member log so much, until it ends or is told otherwise. Gives the member; a worker hears of it from its
        router, at once. Raises what `drain` does.
        """
        asked = wire.encode_set_log_level(kind, member_id, level)
        return wire.decode_log_level_response(await self._ask("SetLogLevel", asked))

    async def traces(self, limit: int = 100, *, failed_only: bool = False) -> TraceList:
        """The latest requests that the gateway remembers, at most 1,000, and how much it remembers.

        `failed_only`: without those that were completed.
        """
        asked = span_wire.encode_list_traces(limit, failed_only)
        return span_wire.decode_traces_response(await self._ask("ListTraces", asked))

    async def trace(self, wanted: str) -> RequestTrace:
        """All that the gateway remembers of one request, by its id or its trace's, and what that says in words.

        Raises NotFound where it remembers nothing, Unavailable where `traces.recent` is off.
        """
        asked = span_wire.encode_get_trace(wanted)
        return span_wire.decode_trace_response(await self._ask("GetTrace", asked))

    async def aliases(self) -> tuple[AliasState, ...]:
        """Every alias by name, with how its versions do."""
        return alias_wire.decode_aliases_response(
            await self._ask("ListAliases", alias_wire.encode_list_aliases())
        )

    async def set_alias(
        self, name: str, model: str, *, fallbacks: Sequence[str] | None = None, force: bool = False
    ) -> Alias:
        """Has `model` answer those who ask for `name`, and `fallbacks` in its stead; None = those that there are.

        Raises UnknownModel where no router knows it, unless forced. So do the calls below.
        """
        message = alias_wire.encode_set_alias(name, model, fallbacks, force=force)
        return await self._alias("SetAlias", message)

    async def remove_alias(self, name: str) -> Alias:
        """Takes an alias away; gives what it was. Raises NotFound."""
        return await self._alias("RemoveAlias", alias_wire.encode_remove_alias(name))

    async def canary(self, name: str, model: str = "", *, share: float, force: bool = False) -> Alias:
        """Has `model`, or the canary that there is, answer a share, 0 … 1. Raises InvalidRequest where no worker serves
        it, unless forced.
        """
        return await self._alias("SetCanary", alias_wire.encode_set_canary(name, model, share, force=force))

    async def promote(self, name: str, *, force: bool = False) -> Alias:
        """Has the canary answer all. Raises InvalidRequest where there is none."""
        return await self._alias("Promote", alias_wire.encode_promote(name, force=force))

    async def roll_back(self, name: str) -> Alias:
        """Ends the canary; where there is none, goes back to what answered before the last promotion."""
        return await self._alias("RollBack", alias_wire.encode_roll_back(name))

    async def shadow(self, name: str, model: str, *, share: float = 0.0, force: bool = False) -> Alias:
        """Gives `model` a copy of a share of the completed requests; "" = nobody any more."""
        return await self._alias("SetShadow", alias_wire.encode_set_shadow(name, model, share, force=force))

    async def static_prompts(self) -> tuple[tuple[StaticPrompts, ...], tuple[StaticCounts, ...]]:
        """The system prompts that engines keep computed, by model; and by version what they spared."""
        answer = await self._ask("ListStaticPrompts", static_wire.encode_list_statics())
        return static_wire.decode_statics_response(answer)

    async def set_static_prompts(self, model: str, prompts: Sequence[str]) -> StaticPrompts:
        """Replaces those of a model; none = none is kept any more. Raises InvalidRequest."""
        message = static_wire.encode_set_statics(StaticPrompts(model=model, prompts=tuple(prompts)))
        return static_wire.decode_set_statics(await self._ask("SetStaticPrompts", message))

    async def _alias(self, method: str, message: Any) -> Alias:
        alias, _ = alias_wire.decode_changed(await self._ask(method, message))
        return alias

    async def _ask(self, method: str, message: Any) -> Any:
        if not self._is_open:
            raise RuntimeError("the client is closed: use it inside `async with`")
        metadata = [*call_metadata()]
        if self._token:
            metadata.append(("authorization", f"Bearer {self._token}"))
        return await self._gateways.ask(method, message, ANSWER_S, metadata)
