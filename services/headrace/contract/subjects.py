"""Names on NATS: streams, buckets, subjects, consumers. The only place that spells them.

    hr.v1.req.<model>.<priority>.<tenant>    a queue            stream HEADRACE_REQUESTS
    hr.v1.res.<tenant>.<request id>          a durable outcome  stream HEADRACE_RESULTS
    hr.v1.dead.<model>.<tenant>              dead letters       stream HEADRACE_DEAD
    hr.v1.tok.<tenant>.<request id>          token chunks       core NATS
    hr.v1.cancel.<tenant>.<request id>       a cancellation     core NATS, request-reply
    hr.v1.seen.<model>.<priority>.<tenant>   headers of what was queued: how routers notice new queues
    hr.v1.claim.<tenant>.<request id>        a request that changes routers   core NATS, request-reply
    hr.v1.admin.status                       who is there                     core NATS, request-reply
    hr.v1.admin.rollout                      how versions do                  core NATS, request-reply
    hr.v1.admin.drain.<kind>.<id>            drain it                         core NATS, request-reply
    hr.v1.admin.log.<kind>.<id>              how much it logs                 core NATS, request-reply
    hr.v1.span.<process>.<instance>          spans that have ended            core NATS
    hr.v1.state.ask                          show yourselves for a while      core NATS
    hr.v1.state.router.<id>                  a router, as it is now           core NATS
    hr.v1.span.<process>.<instance>          spans that have ended            core NATS

A name that goes into a subject must be one subject token: letters, digits, `_` and `-`, at most 64 characters.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from headrace.contract.admin import MemberKind
from headrace.contract.errors import InvalidRequest
from headrace.contract.values import Priority

REQUESTS_STREAM = "HEADRACE_REQUESTS"
RESULTS_STREAM = "HEADRACE_RESULTS"
DEAD_STREAM = "HEADRACE_DEAD"
MEMBERS_BUCKET = "headrace_members"
MODELS_BUCKET = "headrace_models"
FILES_BUCKET = "headrace_files"
PAYLOADS_BUCKET = "headrace_payloads"

ROOT = "hr.v1"
REQUESTS_WILDCARD = f"{ROOT}.req.>"
RESULTS_WILDCARD = f"{ROOT}.res.>"
DEAD_WILDCARD = f"{ROOT}.dead.>"
CANCEL_WILDCARD = f"{ROOT}.cancel.>"
SEEN_WILDCARD = f"{ROOT}.seen.>"
CLAIM_WILDCARD = f"{ROOT}.claim.>"
ADMIN_STATUS = f"{ROOT}.admin.status"
ADMIN_ROLLOUT = f"{ROOT}.admin.rollout"
DRAIN_WILDCARD = f"{ROOT}.admin.drain.>"
LOG_WILDCARD = f"{ROOT}.admin.log.>"
SPANS_WILDCARD = f"{ROOT}.span.>"
STATE_ASK = f"{ROOT}.state.ask"
STATE_WILDCARD = f"{ROOT}.state.router.*"
SPANS_WILDCARD = f"{ROOT}.span.>"

MAX_NAME_LENGTH = 64
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REQUEST_PREFIX = f"{ROOT}.req."
_DRAIN_PREFIX = f"{ROOT}.admin.drain."
_LOG_PREFIX = f"{ROOT}.admin.log."
_SEEN_PREFIX = f"{ROOT}.seen."

# Headers that a raw producer may set and that the gateway does set.
HEADER_REQUEST_ID = "Nats-Msg-Id"
HEADER_CONTENT_TYPE = "Content-Type"
HEADER_CANCEL_KIND = "Headrace-Outcome"
"""On a cancel subject: `cancelled`, the default, or `expired`."""
HEADER_CANCEL_FOR = "Headrace-Gateway"
"""On a cancel subject: the gateway whose last client of the request has left. The router that holds the request ends it
only where no client of another gateway follows it; else the answer is `followed`. No other router remembers it."""
FOLLOWED = "followed"
HEADER_FINGERPRINT = "Headrace-Fingerprint"
"""On a durable outcome, and on a gateway's request: what was asked for, as contract/fingerprint.py has it."""
HEADER_KEEP = "Headrace-Keep"
"""On a request of a gateway's client: it goes on though nobody waits for it."""
SHADOW_TENANT = "_shadow"
"""Whose queue copies of requests for a shadow are in."""
HEADER_SHADOW_OF = "Headrace-Shadow-Of"
"""On a message of that tenant: `<tenant>.<request id>` of the request that it is a copy of."""
HEADER_SHADOW_MODEL = "Headrace-Shadow-Model"
"""On the same: the version that is to answer it."""
CONTENT_TYPE_PROTOBUF = "application/protobuf"
CONTENT_TYPE_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One queue: the requests of one (model, priority, tenant)."""

    model: str
    priority: Priority
    tenant: str

    @property
    def subject(self) -> str:
        return f"{_REQUEST_PREFIX}{self.model}.{self.priority.label}.{self.tenant}"


def is_name(name: str) -> bool:
    """Whether `name` can be a model's or a tenant's name, and so one token of a subject."""
    return _NAME.fullmatch(name) is not None


def check_name(field: str, name: str) -> str:
    """Gives `name` back, or raises InvalidRequest(field) where it cannot be one token of a subject."""
    if not is_name(name):
        raise InvalidRequest(
            field,
            f"must be 1 to {MAX_NAME_LENGTH} letters, digits, '_' or '-' (was {len(name)} characters long)",
        )
    return name


def parse_queue(subject: str) -> Queue:
    """The queue that a request subject names. Raises InvalidRequest(field="subject") where it names none."""
    if not subject.startswith(_REQUEST_PREFIX):
        raise InvalidRequest("subject", f"must begin with {_REQUEST_PREFIX}")
    parts = subject[len(_REQUEST_PREFIX) :].split(".")
    if len(parts) != 3:
        raise InvalidRequest("subject", f"must be {_REQUEST_PREFIX}<model>.<priority>.<tenant>")
    model, priority, tenant = parts
    check_name("subject.model", model)
    check_name("subject.tenant", tenant)
    known = {p.label: p for p in Priority}
    if priority not in known:
        raise InvalidRequest("subject.priority", f"must be one of {', '.join(known)}")
    return Queue(model=model, priority=known[priority], tenant=tenant)


def model_of(subject: str) -> str:
    """The model of a request subject, also where all that follows is none; "" where it names no model."""
    name = subject.removeprefix(_REQUEST_PREFIX).partition(".")[0]
    return name if subject.startswith(_REQUEST_PREFIX) and is_name(name) else ""


def tenant_of(subject: str) -> str:
    """The tenant of a request subject, also where its model or its priority is none; "" where it names no tenant."""
    parts = subject.removeprefix(_REQUEST_PREFIX).split(".")
    return parts[2] if len(parts) == 3 and subject.startswith(_REQUEST_PREFIX) and is_name(parts[2]) else ""


def is_queue(subject: str) -> bool:
    """Whether a request subject names a queue."""
    try:
        parse_queue(subject)
    except InvalidRequest:
        return False
    return True


def subject_of_seen(subject: str) -> str:
    """The request subject behind an announcement on `hr.v1.seen.…`."""
    return _REQUEST_PREFIX + subject.removeprefix(_SEEN_PREFIX)


def consumer_name(subject: str) -> str:
    """A durable consumer's name for a queue: readable, unique, without the characters that NATS forbids in it.

    Names of queues are letters, digits, `_` and `-`; a subject that is no proper queue gets a digest instead.
    """
    tail = subject.removeprefix(_REQUEST_PREFIX)
    try:
        parse_queue(subject)
    except InvalidRequest:
        return "bad-" + hashlib.sha256(tail.encode()).hexdigest()[:32]
    return "q-" + tail.replace(".", "~")


def result_subject(tenant: str, request_id: str) -> str:
    """Where the one durable outcome of a request lies."""
    return f"{ROOT}.res.{tenant}.{request_id}"


def dead_subject(model: str, tenant: str) -> str:
    """Where the dead letters of a model and tenant go; names that are none become `_`."""
    return f"{ROOT}.dead.{model if is_name(model) else '_'}.{tenant if is_name(tenant) else '_'}"


def dead_subject_of(subject: str) -> str:
    """Where a message of a request subject goes that nobody can answer, be the subject well-formed or not."""
    parts = [*subject.removeprefix(_REQUEST_PREFIX).split("."), "", "", ""]
    return dead_subject(parts[0], parts[2])


def token_subject(tenant: str, request_id: str) -> str:
    """Where the tokens of a request go when it names no reply subject."""
    return f"{ROOT}.tok.{tenant}.{request_id}"


def cancel_subject(tenant: str, request_id: str) -> str:
    """Where a cancellation of a request is asked for."""
    return f"{ROOT}.cancel.{tenant}.{request_id}"


def parse_cancel(subject: str) -> tuple[str, str]:
    """(tenant, request id) of a cancel subject. Raises InvalidRequest where it is none."""
    return _parse_pair(subject, f"{ROOT}.cancel.")


def _parse_pair(subject: str, prefix: str) -> tuple[str, str]:
    tenant, dot, request_id = subject.removeprefix(prefix).partition(".")
    if not (subject.startswith(prefix) and is_name(tenant) and dot and is_name(request_id)):
        raise InvalidRequest("subject", f"must be {prefix}<tenant>.<request id>")
    return tenant, request_id


def claim_subject(tenant: str, request_id: str) -> str:
    """Where a router says that it goes on with a request that another had."""
    return f"{ROOT}.claim.{tenant}.{request_id}"


def parse_claim(subject: str) -> tuple[str, str]:
    """(tenant, request id) of a claim subject. Raises InvalidRequest where it is none."""
    return _parse_pair(subject, f"{ROOT}.claim.")


def drain_subject(kind: MemberKind, member_id: str) -> str:
    """Where a member is asked to drain."""
    return f"{_DRAIN_PREFIX}{kind.value}.{member_id}"


def log_subject(kind: MemberKind, member_id: str) -> str:
    """Where a member is told how much to log."""
    return f"{_LOG_PREFIX}{kind.value}.{member_id}"


def parse_drain(subject: str) -> tuple[MemberKind, str]:
    """(kind, member id) of a drain subject. Raises InvalidRequest where it is none."""
    return _parse_member(subject, _DRAIN_PREFIX)


def parse_log(subject: str) -> tuple[MemberKind, str]:
    """(kind, member id) of a log subject. Raises InvalidRequest where it is none."""
    return _parse_member(subject, _LOG_PREFIX)


def _parse_member(subject: str, prefix: str) -> tuple[MemberKind, str]:
    kind, member_id = _parse_pair(subject, prefix)
    try:
        return MemberKind(kind), member_id
    except ValueError:
        raise InvalidRequest("subject", f"names no kind of member: {kind}") from None


def span_subject(process: str, instance: str) -> str:
    """Where a process tells of spans that have ended."""
    return f"{ROOT}.span.{process}.{instance}"


def state_subject(router_id: str) -> str:
    """Where a router shows what it is and does, while somebody looks on."""
    return f"{ROOT}.state.router.{router_id}"


def check_reply_subject(subject: str, tenant: str) -> str:
    """Gives `subject` back if tokens may be published there, else raises InvalidRequest("reply_to").

    A reply subject inside Headrace's or the server's own space could forge requests or API calls, so only the
    tenant's own token space is open there.
    """
    if len(subject) > 255 or not subject or any(c in subject for c in "*> \t\r\n") or ".." in subject:
        raise InvalidRequest(
            "reply_to", "must be a plain NATS subject of at most 255 characters, without wildcards"
        )
    if subject[0] in "$." or subject[-1] == ".":
        raise InvalidRequest("reply_to", "must not begin with '$' or '.', nor end with '.'")
    if subject.startswith("hr.") and not subject.startswith(f"{ROOT}.tok.{tenant}."):
        raise InvalidRequest("reply_to", f"inside hr.> only {ROOT}.tok.{tenant}.> may be named")
    return subject
