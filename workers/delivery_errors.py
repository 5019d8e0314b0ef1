"""How a delivery can go wrong, as exceptions, and the outcome each is recorded as.

    httpx.HTTPError
    └── httpx.TransportError
        ├── httpx.TimeoutException
        │   ├── httpx.ConnectTimeout            TIMEOUT             before the connection stood
        │   └── httpx.ReadTimeout               TIMEOUT             after it
        ├── httpx.NetworkError
        │   ├── httpx.ConnectError              CONNECTION_ERROR    refused, unreachable
        │   │   ├── BlockedAddress              BLOCKED_ADDRESS
        │   │   ├── NameNotResolved             DNS_ERROR
        │   │   └── TLSFailed                   TLS_ERROR
        │   └── httpx.ReadError                 CONNECTION_ERROR    closed or reset before the answer was complete
        ├── httpx.ProtocolError
        │   ├── httpx.LocalProtocolError        CONNECTION_ERROR    what we were asked to send cannot be sent
        │   └── httpx.RemoteProtocolError       PROTOCOL_ERROR      the answer is not HTTP/1.1
        │       └── ResponseHeadTooLarge        RESPONSE_TOO_LARGE
        └── httpx.UnsupportedProtocol           CONNECTION_ERROR    neither http nor https

The message of each is one line, written for the customer whose receiver it is: it names the host as they wrote it and
never an address it resolved to, which may lie in our own network.
"""

import httpx

from models.attempt import AttemptOutcome


class BlockedAddress(httpx.ConnectError):
    """The host is, or resolves to, an address that deliveries may not reach."""


class NameNotResolved(httpx.ConnectError):
    """The host name has no address, or its name servers did not say so in time."""


class TLSFailed(httpx.ConnectError):
    """The TLS handshake failed: wrong name, expired or untrusted certificate, no common version."""


class ResponseHeadTooLarge(httpx.RemoteProtocolError):
    """The answer's headers were more, or longer, than we read."""


# The first row that fits an error names its outcome, so a subclass stands above its base.
_OUTCOMES: tuple[tuple[type[Exception], AttemptOutcome], ...] = (
    (BlockedAddress, AttemptOutcome.BLOCKED_ADDRESS),
    (NameNotResolved, AttemptOutcome.DNS_ERROR),
    (TLSFailed, AttemptOutcome.TLS_ERROR),
    (httpx.TimeoutException, AttemptOutcome.TIMEOUT),
    (ResponseHeadTooLarge, AttemptOutcome.RESPONSE_TOO_LARGE),
    (httpx.RemoteProtocolError, AttemptOutcome.PROTOCOL_ERROR),
    (httpx.TransportError, AttemptOutcome.CONNECTION_ERROR),
)


def outcome_of(error: Exception) -> tuple[AttemptOutcome, str]:
    """The outcome an attempt that raised `error` is recorded with, and one line that is safe to show.

    An error that is none of the tree's is a fault of ours: it says so, and keeps its details to itself.
    """
    for kind, outcome in _OUTCOMES:
        if isinstance(error, kind):
            return outcome, str(error)
    return AttemptOutcome.CONNECTION_ERROR, "the request was not sent, for a reason on our side"


def outcome_of_status(code: int) -> AttemptOutcome:
    """The outcome of a complete answer with this status code: 2xx succeeds, 3xx is refused, all else is an error."""
    match code // 100:
        case 2:
            return AttemptOutcome.SUCCESS
        case 3:
            return AttemptOutcome.REDIRECT_REFUSED
        case _:
            return AttemptOutcome.HTTP_ERROR
