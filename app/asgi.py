"""The ASGI app: every door, and what it opens on."""

import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute

from app import graphiql, health, rest, session_door
from app.authentication import ORGANIZATION_HEADER, Unauthenticated, caller_of
from app.request_id import RequestIds, request_id_of
from app.rest.request_id import HEADER
from app.settings import Settings, SettingsError, read
from app.wiring import House, hookline
from resolvers.availability import Room, unavailable
from resolvers.errors import Forbidden, RateLimited, ValidationFailed
from schema.context import Context
from schema.documents import StoredDocuments, trusted_from
from schema.http import GraphQLRefused, graphql_app
from schema.sdl import print_sdl


def application(
    opened: Callable[[], AbstractAsyncContextManager[House]],
    max_body_bytes: int,
    allowed_origins: Sequence[str] = (),
    documents: StoredDocuments | None = None,
    most_waiting: int = 500,
) -> Starlette:
    """The app on a house that is opened when the server starts and closed when it stops.

    `most_waiting`: how many requests of REST and GraphQL may wait for their answers at once.
    """
    room = Room(most_waiting)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with opened() as house:
            app.state.house = house
            yield

    graphql = graphql_app(
        _context_of,
        graphiql.graphiql_page,
        max_body_bytes=max_body_bytes,
        allowed_origins=allowed_origins,
        documents=documents,
        room=room,
    )
    app = Starlette(
        lifespan=lifespan,
        max_body_size=max_body_bytes,
        routes=[
            Route("/", _to_graphiql),
            *graphiql.static_routes(),
            Route("/graphql", graphql, max_body_size=sys.maxsize),  # it has a cap of its own, with a 413 in JSON
            WebSocketRoute("/graphql", graphql),
            Route("/graphql/schema", _sdl),
            *session_door.routes(),
            *rest.routes(),
            *health.routes(),
        ],
    )
    app.state.room = room
    if allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                ORGANIZATION_HEADER,
                "X-API-Key",
                HEADER,
            ],
            allow_credentials=True,
            expose_headers=["Retry-After", HEADER],
        )
    app.add_middleware(RequestIds)
    return app


def serving() -> Starlette:
    """For `hookline serve`: the settings of the environment; delivering is the workers' part."""
    settings: Settings = read()
    return application(
        lambda: hookline(settings),
        settings.max_body_bytes,
        settings.allowed_origins,
        documents_of(settings),
        settings.max_waiting_requests,
    )


def documents_of(settings: Settings) -> StoredDocuments:
    """The documents that a digest may name. Raises SettingsError."""
    path = settings.trusted_documents
    try:
        trusted = None if path is None else trusted_from(path)
    except ValueError as error:
        raise SettingsError(f"HOOKLINE_TRUSTED_DOCUMENTS: {error}") from None
    return StoredDocuments(trusted, automatic=settings.persisted_queries)


async def _context_of(connection: HTTPConnection) -> Context:
    try:
        caller = await caller_of(connection)
    except Unauthenticated as refused:
        raise GraphQLRefused(401, "UNAUTHENTICATED", refused.message) from None
    except Forbidden as refused:
        raise GraphQLRefused(403, "FORBIDDEN", refused.message) from None
    except RateLimited as refused:
        raise GraphQLRefused.until_later(429, refused) from None
    except ValidationFailed as refused:
        raise GraphQLRefused(400, "BAD_REQUEST", refused.message) from None
    except Exception as error:
        away = unavailable(error)
        if away is None:
            raise
        raise GraphQLRefused.until_later(503, away) from None
    return Context(caller, request_id_of(connection))


async def _sdl(request: Request) -> Response:
    """The schema, for code generators. It is the same for everyone, and needs no key."""
    text, etag = _printed_schema()
    headers = {"etag": etag, "cache-control": "no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return PlainTextResponse(text, headers=headers)


@cache
def _printed_schema() -> tuple[str, str]:
    text = print_sdl()
    return text, f'"{hashlib.sha256(text.encode()).hexdigest()}"'


async def _to_graphiql(request: Request) -> Response:
    return RedirectResponse("graphql")
