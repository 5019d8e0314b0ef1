"""A browser's session: a cookie that stands for an API key, so that no page has to keep the key.

The cookie holds, sealed, the key's id and when the session ends. Nothing of it is stored, so every server process knows
every session; and as each request looks the key up, its revocation ends all its sessions.

A browser sends cookies by itself, also when another site's page asks it to. So whatever changes something is believed
only from a page of ours: the cookie is SameSite=Strict, the browser must say where the request comes from, and a POST
must be declared JSON, which no form can do.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit
from uuid import UUID

from starlette.requests import HTTPConnection
from starlette.responses import Response

from models.sealing import CannotUnseal, Sealer
from resolvers.errors import Forbidden

LIFETIME_MS = 12 * 3_600_000
"""A working day. The key's own end may come before it."""

_NAME = "hookline_session"
_CONTEXT = b"browser session"
_ID_BYTES = 16
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Session:
    """What a cookie says."""

    key_id: UUID
    expires_at: int
    """Milliseconds since 1970."""

    def sealed(self, sealer: Sealer) -> str:
        plain = self.key_id.bytes + self.expires_at.to_bytes(8, "big")
        return base64.urlsafe_b64encode(sealer.seal(plain, _CONTEXT)).decode()


def session_of(connection: HTTPConnection, sealer: Sealer, now: int) -> Session | None:
    """The session of a request's cookie; None when there is none, it is over, or we did not seal it."""
    value = connection.cookies.get(_cookie_name(connection))
    if value is None:
        return None
    try:
        plain = sealer.unseal(base64.urlsafe_b64decode(value.encode()), _CONTEXT)
    except (CannotUnseal, ValueError):
        return None
    session = Session(UUID(bytes=plain[:_ID_BYTES]), int.from_bytes(plain[_ID_BYTES:], "big"))
    return session if session.expires_at > now else None


def begin(response: Response, connection: HTTPConnection, session: Session, sealer: Sealer, now: int) -> None:
    """Has the browser keep the session."""
    response.set_cookie(
        _cookie_name(connection),
        session.sealed(sealer),
        max_age=(session.expires_at - now) // 1000,
        path="/",
        secure=_is_secure(connection),
        httponly=True,
        samesite="strict",
    )


def end(response: Response, connection: HTTPConnection) -> None:
    """Has the browser forget the session."""
    response.delete_cookie(
        _cookie_name(connection), path="/", secure=_is_secure(connection), httponly=True, samesite="strict"
    )


def require_own_page(connection: HTTPConnection, allowed_origins: Sequence[str]) -> None:
    """Raises Forbidden for what another site's page could have had the browser send."""
    headers = connection.headers
    if connection.scope["type"] == "websocket":
        if not _is_own(headers.get("origin"), headers.get("host"), allowed_origins):
            raise Forbidden([], "with a session, a WebSocket is opened from the server's own pages alone")
        return
    method = connection.scope["method"]
    if method in _SAFE_METHODS:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    own = site in ("same-origin", "none") if site is not None else _is_own(origin, headers.get("host"), ())
    if not own and origin not in allowed_origins:
        raise Forbidden([], "with a session, changes are taken from the server's own pages alone; send a key instead")
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method == "POST" and media != "application/json":
        raise Forbidden([], "with a session, a POST must have the Content-Type application/json")


def _is_own(origin: str | None, host: str | None, allowed_origins: Sequence[str]) -> bool:
    return origin is not None and (origin in allowed_origins or urlsplit(origin).netloc == host)


def _cookie_name(connection: HTTPConnection) -> str:
    """With the prefix that keeps a browser from taking the cookie from a sub-domain or from plain http."""
    return f"__Host-{_NAME}" if _is_secure(connection) else _NAME


def _is_secure(connection: HTTPConnection) -> bool:
    """Everywhere but by plain http on this machine: what is in front of us may well speak https."""
    return connection.url.scheme in ("https", "wss") or not _is_loopback(connection.url.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
