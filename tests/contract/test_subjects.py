"""Names on NATS."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contract import subjects
from headrace.contract.admin import MemberKind
from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import (
    Queue,
    cancel_subject,
    check_name,
    check_reply_subject,
    consumer_name,
    dead_subject,
    dead_subject_of,
    drain_subject,
    is_name,
    parse_cancel,
    parse_drain,
    parse_queue,
    result_subject,
    subject_of_seen,
    token_subject,
)
from headrace.contract.values import Priority

NAMES = st.text("aZ09_-", min_size=1, max_size=64)
QUEUES = st.builds(Queue, model=NAMES, priority=st.sampled_from(Priority), tenant=NAMES)
LEGAL_CONSUMER = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]{1,255}")


@settings(derandomize=True)
@given(QUEUES)
def test_a_queue_is_its_subject(queue: Queue) -> None:
    """There and back; and by its announcement."""
    assert parse_queue(queue.subject) == queue
    assert subject_of_seen(queue.subject.replace("hr.v1.req.", "hr.v1.seen.", 1)) == queue.subject


def test_subjects_are_spelt_as_documented() -> None:
    """A producer with nothing but a NATS client relies on them."""
    queue = Queue(model="smollm2", priority=Priority.NORMAL, tenant="default")
    assert queue.subject == "hr.v1.req.smollm2.normal.default"
    assert result_subject("t", "ID") == "hr.v1.res.t.ID"
    assert dead_subject("m", "t") == "hr.v1.dead.m.t"
    assert token_subject("t", "ID") == "hr.v1.tok.t.ID"
    assert cancel_subject("t", "ID") == "hr.v1.cancel.t.ID"
    for subject, wildcard in [
        (queue.subject, subjects.REQUESTS_WILDCARD),
        (result_subject("t", "ID"), subjects.RESULTS_WILDCARD),
        (dead_subject("m", "t"), subjects.DEAD_WILDCARD),
        (cancel_subject("t", "ID"), subjects.CANCEL_WILDCARD),
    ]:
        assert subject.startswith(wildcard.removesuffix(">"))


@pytest.mark.parametrize(
    ("subject", "field"),
    [
        ("", "subject"),
        ("hr.v1.req", "subject"),
        ("hr.v2.req.m.normal.t", "subject"),
        ("x.hr.v1.req.m.normal.t", "subject"),
        ("hr.v1.req.m.normal", "subject"),
        ("hr.v1.req.m.normal.t.more", "subject"),
        ("hr.v1.req..normal.t", "subject.model"),
        ("hr.v1.req.m.normal.", "subject.tenant"),
        ("hr.v1.req.a b.normal.t", "subject.model"),
        ("hr.v1.req.m.normal.é", "subject.tenant"),
        ("hr.v1.req.m.normal." + "t" * 65, "subject.tenant"),
        ("hr.v1.req.m.urgent.t", "subject.priority"),
        ("hr.v1.req.m.NORMAL.t", "subject.priority"),
        ("hr.v1.req.m.2.t", "subject.priority"),
        ("hr.v1.req.m..t", "subject.priority"),
    ],
)
def test_a_subject_that_names_no_queue_is_refused(subject: str, field: str) -> None:
    """With the part at fault."""
    with pytest.raises(InvalidRequest) as refused:
        parse_queue(subject)
    assert refused.value.field == field


@pytest.mark.parametrize("name", ["a", "A-Z_0-9", "x" * 64, "-", "_"])
def test_names_are_one_token_of_a_subject(name: str) -> None:
    """Letters, digits, `_` and `-`, at most 64."""
    assert check_name("model", name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "a.b", "a b", "*", ">", "a/b", "a~b", "ä", "a\n", "\x00", "$JS"]
)
def test_other_names_are_refused_without_being_quoted(name: str) -> None:
    """What a client calls its tenant may be anything: only its length is told."""
    assert not is_name(name)
    with pytest.raises(InvalidRequest) as refused:
        check_name("tenant", name)
    assert refused.value.field == "tenant"
    assert f"was {len(name)} characters" in str(refused.value)
    assert len(name) < 3 or name not in str(refused.value)


# Consumers.


@settings(derandomize=True)
@given(st.lists(QUEUES | st.text(max_size=30).map("hr.v1.req.".__add__), min_size=2, max_size=2))
def test_consumers_have_legal_names_of_their_own(two: list[Queue | str]) -> None:
    """NATS takes no blanks, `.`, `*`, `>`, `/` or `\\` in them; two subjects never share a consumer."""
    subjects_ = [queue.subject if isinstance(queue, Queue) else queue for queue in two]
    names = [consumer_name(subject) for subject in subjects_]
    for name in names:
        assert LEGAL_CONSUMER.fullmatch(name)
    assert (names[0] == names[1]) is (subjects_[0] == subjects_[1])


def test_names_that_look_alike_have_consumers_of_their_own() -> None:
    """The separators of a name are not those of a subject."""
    alike = ["a.normal.b-c", "a-normal.normal.b", "a.high.b", "a.normal.b_c", "a-.normal.b", "a.normal.-b"]
    assert len({consumer_name("hr.v1.req." + tail) for tail in alike}) == len(alike)


# Dead letters.


@pytest.mark.parametrize(
    ("subject", "dead"),
    [
        ("hr.v1.req.m.normal.t", "hr.v1.dead.m.t"),
        ("hr.v1.req.m.normal", "hr.v1.dead.m._"),
        ("hr.v1.req.m.x.t.more", "hr.v1.dead.m.t"),
        ("hr.v1.req.*.x.>", "hr.v1.dead._._"),
        ("hr.v1.req", "hr.v1.dead.hr.req"),
        ("", "hr.v1.dead._._"),
    ],
)
def test_every_message_has_a_place_among_the_dead(subject: str, dead: str) -> None:
    """Whatever it was published to: the letter's subject is well-formed."""
    assert dead_subject_of(subject) == dead


# Cancellations.


@settings(derandomize=True)
@given(NAMES, NAMES)
def test_a_cancel_subject_names_tenant_and_request(tenant: str, request_id: str) -> None:
    """There and back."""
    assert parse_cancel(cancel_subject(tenant, request_id)) == (tenant, request_id)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "a.b",
        "t.r",
        "hr.v1.cancel",
        "hr.v1.cancel.t",
        "hr.v1.cancel.t.",
        "hr.v1.cancel..r",
        "hr.v1.cancel.t.r.x",
    ],
)
def test_any_other_subject_cancels_nothing(subject: str) -> None:
    """Not even where its last two parts could be a tenant and a request."""
    with pytest.raises(InvalidRequest):
        parse_cancel(subject)


# Drains.


@settings(derandomize=True)
@given(st.sampled_from(MemberKind), NAMES)
def test_a_drain_subject_names_kind_and_member(kind: MemberKind, member_id: str) -> None:
    """There and back."""
    assert parse_drain(drain_subject(kind, member_id)) == (kind, member_id)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "worker.w",
        "hr.v1.admin.drain",
        "hr.v1.admin.drain.worker",
        "hr.v1.admin.drain.worker.",
        "hr.v1.admin.drain.worker.w.x",
        "hr.v1.admin.drain.nats.n",
        "hr.v1.admin.status",
    ],
)
def test_any_other_subject_drains_nobody(subject: str) -> None:
    """Nor does a kind that there is not."""
    with pytest.raises(InvalidRequest):
        parse_drain(subject)


# Reply subjects.


@pytest.mark.parametrize(
    "subject",
    [
        "my.replies",
        "_INBOX.abc.1",
        "a",
        "hr",
        "hrx.v1.req.m",
        "hr.v1.tok.t.ID",
        "hr.v1.tok.t.a.b",
        "x" * 255,
        "ä.ö",
    ],
)
def test_tokens_may_go_to_any_subject_of_the_producer_s(subject: str) -> None:
    """And to the token space of its own tenant."""
    assert check_reply_subject(subject, "t") == subject


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "a.*",
        "a.>",
        ">",
        "*",
        "a b",
        "a\tb",
        "a\r\nPUB x 1",
        "a..b",
        ".a",
        "a.",
        "x" * 256,
        "$JS.API.STREAM.DELETE.HEADRACE_REQUESTS",
        "$SYS.REQ.SERVER.PING",
        "$KV.headrace_models.m",
        "hr.v1.req.m.normal.t",
        "hr.v1.res.t.ID",
        "hr.v1.cancel.t.ID",
        "hr.v1.tok.other.ID",
        "hr.v1.tok.t",
        "hr.v1.tok.t.",
        "hr.v1.tok.tt.ID",
        "hr.v2.req.m",
        "hr.",
    ],
)
def test_a_reply_subject_that_could_forge_or_flood_is_refused(subject: str) -> None:
    """Wildcards, the server's own space, other queues, other tenants' tokens. It is not quoted."""
    with pytest.raises(InvalidRequest) as refused:
        check_reply_subject(subject, "t")
    assert refused.value.field == "reply_to"
    told = str(refused.value).replace("hr.v1.tok.t.>", "")
    assert len(subject) < 8 or subject not in told
