"""GraphiQL, served wholly from this folder: no outside address, no inline script, nothing kept in the
browser but a session that no script can read.

`static/` holds what the browser loads (`static/README.md` says where each file comes from) and `tabs/` the
documents the page opens with. All of it, about 1.7 MB, is read once a process and gzipped once, on first use.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from string import Template
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

__all__ = ["Tab", "graphiql_page", "static_routes", "tabs"]

HERE = Path(__file__).parent

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}

# The one style element that GraphiQL makes: react-remove-scroll's, while a dialog is open. Its text is always the
# same, since this page has no margins and no scroll bar. All else is set through the CSSOM, which needs no leave.
SCROLL_LOCK = "'sha256-nzTgYzXYDNe6BAHiiI7NNlfK8n/auuOAhh2t92YvuXo='"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' {SCROLL_LOCK}",
        "img-src 'self' data:",
        "font-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Tab:
    """A ready document of the page, with its variables; GraphiQL titles it by the operation's name."""

    document: str
    variables: dict[str, Any] | None


@cache
def tabs() -> tuple[Tab, ...]:
    """The tabs in their order on the page, as `tabs/tabs.json` lists them."""
    folder = HERE / "tabs"
    listed = json.loads((folder / "tabs.json").read_bytes())
    return tuple(Tab((folder / tab["document"]).read_text("utf-8"), tab.get("variables")) for tab in listed)


@dataclass(frozen=True)
class StaticFile:
    """One file as it is sent, plain or gzipped."""

    content_type: str
    plain: bytes

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.plain).hexdigest()

    @cached_property
    def gzipped(self) -> bytes:
        return gzip.compress(self.plain, mtime=0)


@cache
def static_files() -> dict[str, StaticFile]:
    """Everything the page loads, by name: the files in `static/` of a known type, and the tabs as one."""
    contents = {
        path.name: path.read_bytes() for path in sorted((HERE / "static").iterdir()) if path.suffix in CONTENT_TYPES
    }
    contents["tabs.json"] = json.dumps([{"query": tab.document, "variables": tab.variables} for tab in tabs()]).encode()
    return {name: StaticFile(CONTENT_TYPES[Path(name).suffix], content) for name, content in contents.items()}


@cache
def edition() -> str:
    """Names the state of all static files together: it is in their addresses, so they may be kept for ever."""
    return hashlib.sha256("".join(file.digest for file in static_files().values()).encode()).hexdigest()[:16]


@cache
def page_html() -> str:
    # Relative to /graphql, so that the page also works below a proxy's prefix.
    return Template((HERE / "page.html").read_text("utf-8")).substitute(static=f"graphql/static/{edition()}")


def graphiql_page(request: Request) -> Response:
    """The page a browser gets for `GET /graphql`. It is the same for everyone and holds no key."""
    return HTMLResponse(page_html(), headers=PAGE_HEADERS)


def static_file(request: Request) -> Response:
    """A file of the page: gzipped where that is understood, 304 where the browser has it, 404 when unknown.

    Not `async`: Starlette runs it in a thread, so the first gzip of a megabyte (a tenth of a second) holds up nobody.
    """
    file = static_files().get(request.path_params["name"])
    if file is None:
        return Response(status_code=404)
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    etag = f'"{file.digest}-gzip"' if zipped else f'"{file.digest}"'
    current = request.path_params["edition"] == edition()
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if current else "no-cache",
        "ETag": etag,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return Response(file.gzipped if zipped else file.plain, headers=headers, media_type=file.content_type)


def static_routes() -> list[BaseRoute]:
    """The routes of the page's own files, `/graphql/static/<edition>/<name>`; they need no key."""
    return [Route("/graphql/static/{edition}/{name}", static_file, methods=["GET"])]
