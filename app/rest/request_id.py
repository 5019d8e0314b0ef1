"""A name for each request, so that a caller's complaint and our log line find each other."""

import re
from collections.abc import Mapping

from models.ids import new_id

HEADER = "X-Request-Id"

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{8,64}")


def request_id_of(headers: Mapping[str, str]) -> str:
    """The caller's own X-Request-Id when it is 8 to 64 of A–Z, a–z, 0–9, `_` and `-`; otherwise a fresh ULID."""
    given = headers.get(HEADER.lower(), "")
    return given if _WELL_FORMED.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """A ULID: 26 characters of Crockford base32, of which the first ten are the millisecond."""
    value = new_id().int
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
