"""The messages that speak of aliases, as `trips` has the others."""

from __future__ import annotations

from hypothesis import strategies as st

from headrace.contract import alias_wire as wire
from headrace.contract import static_wire
from headrace.contract.alias import Alias
from headrace.contract.rollout import AliasState, RolloutCounts, ShadowCounts, VersionCounts
from headrace.contract.static import StaticCounts, StaticPrompts
from headrace.v1 import admin_pb2 as pb
from tests.contract.strategies import SECONDS, SHARES, TEXTS, UINT64, tuples
from tests.contract.trips import Trip

ALIASES = st.builds(
    Alias,
    name=TEXTS,
    stable=TEXTS,
    canary=TEXTS,
    share=SHARES,
    fallbacks=tuples(TEXTS),
    shadow=TEXTS,
    shadow_share=SHARES,
    previous=TEXTS,
    changed_s=SECONDS,
    note=TEXTS,
)
VERSIONS = st.builds(
    VersionCounts,
    alias=TEXTS,
    model=TEXTS,
    answered=UINT64,
    failed=UINT64,
    late=UINT64,
    first_token_s=SECONDS,
    first_tokens=UINT64,
)
SHADOWS = st.builds(
    ShadowCounts,
    alias=TEXTS,
    model=TEXTS,
    copies=UINT64,
    dropped=UINT64,
    failed=UINT64,
    same=UINT64,
    different=UINT64,
    same_tokens=UINT64,
    tokens=UINT64,
    answer_s=SECONDS,
    answer_s_of_client=SECONDS,
    answers=UINT64,
)
STATICS = st.builds(StaticPrompts, model=TEXTS, prompts=tuples(TEXTS))
STATIC_COUNTS = st.builds(StaticCounts, model=TEXTS, hits=UINT64, misses=UINT64, tokens=UINT64)
OF_ALIAS = st.builds(RolloutCounts, versions=tuples(VERSIONS), shadows=tuples(SHADOWS))
COUNTS = st.builds(
    RolloutCounts, versions=tuples(VERSIONS), shadows=tuples(SHADOWS), statics=tuples(STATIC_COUNTS)
)
CHANGED = st.tuples(ALIASES, UINT64)
SHARED = st.tuples(TEXTS, TEXTS, SHARES, st.booleans())
ALIAS_TRIPS = [
    Trip(pb.ListAliasesRequest, st.just(()), lambda _: wire.encode_list_aliases(), lambda _: ()),
    Trip(
        pb.ListAliasesResponse,
        tuples(st.builds(AliasState, alias=ALIASES, revision=UINT64, counts=OF_ALIAS)),
        wire.aliases_response,
        wire.decode_aliases_response,
    ),
    Trip(
        pb.SetAliasRequest,
        st.tuples(TEXTS, TEXTS, st.none() | tuples(TEXTS), st.booleans()),
        lambda asked: wire.encode_set_alias(*asked[:3], force=asked[3]),
        wire.decode_set_alias,
    ),
    Trip(
        pb.RemoveAliasRequest,
        TEXTS,
        wire.encode_remove_alias,
        lambda message: message.name,
    ),
    Trip(
        pb.SetCanaryRequest,
        SHARED,
        lambda asked: wire.encode_set_canary(*asked[:3], force=asked[3]),
        wire.decode_share,
    ),
    Trip(
        pb.SetShadowRequest,
        SHARED,
        lambda asked: wire.encode_set_shadow(*asked[:3], force=asked[3]),
        wire.decode_share,
    ),
    Trip(
        pb.PromoteRequest,
        st.tuples(TEXTS, st.booleans()),
        lambda asked: wire.encode_promote(asked[0], force=asked[1]),
        lambda message: (message.name, message.force),
    ),
    Trip(pb.RollBackRequest, TEXTS, wire.encode_roll_back, lambda message: message.name),
    Trip(pb.SetAliasResponse, CHANGED, lambda c: wire.set_alias_response(*c), wire.decode_changed),
    Trip(pb.RemoveAliasResponse, CHANGED, lambda c: wire.remove_alias_response(*c), wire.decode_changed),
    Trip(pb.SetCanaryResponse, CHANGED, lambda c: wire.set_canary_response(*c), wire.decode_changed),
    Trip(pb.PromoteResponse, CHANGED, lambda c: wire.promote_response(*c), wire.decode_changed),
    Trip(pb.RollBackResponse, CHANGED, lambda c: wire.roll_back_response(*c), wire.decode_changed),
    Trip(pb.SetShadowResponse, CHANGED, lambda c: wire.set_shadow_response(*c), wire.decode_changed),
    Trip(pb.ListStaticPromptsRequest, st.just(()), lambda _: static_wire.encode_list_statics(), lambda _: ()),
    Trip(
        pb.ListStaticPromptsResponse,
        st.tuples(tuples(STATICS), tuples(STATIC_COUNTS)),
        lambda found: static_wire.statics_response(*found),
        static_wire.decode_statics_response,
    ),
    Trip(
        pb.SetStaticPromptsRequest,
        STATICS,
        static_wire.encode_set_statics,
        static_wire.decode_set_statics,
    ),
    Trip(
        pb.SetStaticPromptsResponse,
        STATICS,
        static_wire.set_statics_response,
        static_wire.decode_set_statics,
    ),
    Trip(
        pb.RolloutReply,
        COUNTS,
        lambda counts: pb.RolloutReply.FromString(wire.encode_rollout(counts)),
        lambda message: wire.decode_rollout(message.SerializeToString()),
    ),
]
