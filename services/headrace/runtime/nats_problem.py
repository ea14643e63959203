"""What went wrong with a connection to NATS, in words for a person and without credentials."""

from __future__ import annotations

import socket
import ssl

import nats.errors


def problem_of(error: Exception) -> str:
    """One short phrase. Unknown errors are named by their class: their text may quote an address with a password."""
    match error:
        case nats.errors.AuthorizationError():
            return "it refuses these credentials"
        case nats.errors.UnexpectedEOF() | ConnectionResetError() | BrokenPipeError():
            return "it closed the connection"
        case nats.errors.StaleConnectionError():
            return "it no longer answers"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason}"
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "connection refused"
        case socket.gaierror():
            return "the host name is not known"
        case OSError():
            return _os_problem(error)
        case nats.errors.Error():
            return _server_word(str(error))
        case _:
            return type(error).__name__


def _os_problem(error: OSError) -> str:
    # asyncio joins the failures of several addresses into one text without an errno.
    if "Connect call failed" in str(error):
        return (
            "connection refused" if "Errno 111" in str(error) or "Errno 61" in str(error) else "not reachable"
        )
    return error.strerror or type(error).__name__


def _server_word(text: str) -> str:
    """What the server said: `nats: 'Authorization Violation'`. Its own errors quote no credentials."""
    word = text.removeprefix("nats:").strip().strip("'").strip()
    if word.lower().startswith(("authorization", "user authentication")):
        return f"it refuses these credentials ({word})"
    return word
