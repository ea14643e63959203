"""Why JetStream refused something: its error codes, and what they mean for us.

Measured on nats-server 2.15. A full queue, a taken result subject and a full stream share one code (10077, status
503); only the description tells them apart. nats-py raises ServiceUnavailableError for all of them, so never read
that class as "the server is away".
"""

from __future__ import annotations

from enum import Enum

import nats.errors
from nats.js.errors import APIError, NoStreamResponseError

# The server's error codes (errors.json of nats-server).
STORE_FAILED = 10077
MESSAGE_TOO_LARGE = 10054
SUBJECTS_OVERLAP = 10065
CONSUMER_OVERLAP = 10100
JETSTREAM_OFF = frozenset({10039, 10076})
STREAM_EXISTS = 10058
"""With other settings, as the server says; or being made by somebody else at this moment, in a cluster."""
NO_STORAGE = frozenset({10023, 10028, 10047})
"""The server, or our account on it, keeps as many bytes as it may; on any stream, until some of them go."""
NOT_PLACED = frozenset({10005, 10008})
"""A cluster has too few servers at the moment, or is choosing who leads."""
STREAM_NOT_FOUND = 10059
CONSUMER_CREATE = 10012


class Refusal(Enum):
    """Why a message was not stored."""

    SUBJECT_FULL = "subject full"
    """The subject holds as many messages as it may: a full queue, or an outcome that exists already."""
    STREAM_FULL = "stream full"
    """The stream holds as many bytes or messages as it may, or the server does."""
    TOO_LARGE = "too large"
    """The message is larger than the server takes."""
    NO_STREAM = "no stream"
    """No stream stores this subject: the layout is missing, or JetStream is down."""


def refusal_of(error: Exception) -> Refusal | None:
    """What a failed `js.publish` means; None for everything else, such as no answer, after which nobody knows whether
    the message is stored. Publishing again with the same Nats-Msg-Id is safe then.
    """
    match error:
        case APIError(err_code=code, description=said) if code == STORE_FAILED:
            per_subject = "per subject" in (said or "")
            return Refusal.SUBJECT_FULL if per_subject else Refusal.STREAM_FULL
        case APIError(err_code=code) if code in NO_STORAGE:
            return Refusal.STREAM_FULL
        case APIError(err_code=code) if code == MESSAGE_TOO_LARGE:
            return Refusal.TOO_LARGE
        case nats.errors.MaxPayloadError():
            return Refusal.TOO_LARGE
        case NoStreamResponseError():
            return Refusal.NO_STREAM
        case _:
            return None


def may_lack_stream(error: Exception) -> bool:
    """Whether a failed `js.publish` may mean that no stream takes the subject.

    Where somebody else listens there, nobody says so: then the answer just does not come.
    """
    return refusal_of(error) is Refusal.NO_STREAM or isinstance(error, TimeoutError)
