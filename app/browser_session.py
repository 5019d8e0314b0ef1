"""A browser's session: a cookie that stands for an API key, so that no page has to keep the key.

The cookie holds, sealed, an id of the session, that of the key, and when the session ends. Nothing of it is stored but
that it was ended before, so every server process knows every session; and as each request looks the key up, its
revocation ends all its sessions.

A browser sends cookies by itself, also when another site's page asks it to. So whatever changes something is believed
only from a page of ours: the cookie is SameSite=Strict, the browser must say where the request comes from, and a POST
must be declared JSON, which no form can do.
"""

import base64
import struct
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit
from uuid import UUID

from starlette.requests import HTTPConnection
from starlette.responses import Response

from models.sealing import CannotUnseal, Sealer
from resolvers.caller import Session
from resolvers.errors import Forbidden

LIFETIME_MS = 12 * 3_600_000
"""A working day. The key's own end may come before it."""

_NAME = "hookline_session"
_CONTEXT = b"browser session"
_FORM = struct.Struct(">16s16sQ")
"""The session's id, the key's, and milliseconds since 1970."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def sealed(session: Session, sealer: Sealer) -> str:
    """What the cookie says."""
    plain = _FORM.pack(session.id.bytes, session.key_id.bytes, session.expires_at)
    return base64.urlsafe_b64encode(sealer.seal(plain, _CONTEXT)).decode()


def session_of(connection: HTTPConnection, sealer: Sealer, now: int) -> Session | None:
    """The session of a request's cookie; None when there is none, it is over, or we did not seal it."""
    value = connection.cookies.get(_cookie_name(connection))
    if value is None:
        return None
    try:
        id_, key_id, expires_at = _FORM.unpack(sealer.unseal(base64.urlsafe_b64decode(value.encode()), _CONTEXT))
    except (CannotUnseal, ValueError, struct.error):
        return None
    session = Session(UUID(bytes=id_), UUID(bytes=key_id), expires_at)
    return session if session.expires_at > now else None


def begin(response: Response, connection: HTTPConnection, session: Session, sealer: Sealer, now: int) -> None:
    """Has the browser keep the session."""
    response.set_cookie(
        _cookie_name(connection),
        sealed(session, sealer),
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
