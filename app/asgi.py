"""The ASGI app: every door, and what it opens on."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute

from app import graphiql, health, rest
from app.authentication import Unauthenticated, caller_of
from app.request_id import RequestIds, request_id_of
from app.settings import Settings, read
from app.wiring import House, hookline
from resolvers.errors import Forbidden, ValidationFailed
from schema.context import Context
from schema.http import GraphQLRefused, graphql_app


def application(opened: Callable[[], AbstractAsyncContextManager[House]], max_body_bytes: int) -> Starlette:
    """The app on a house that is opened when the server starts and closed when it stops."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with opened() as house:
            app.state.house = house
            yield

    graphql = graphql_app(_context_of, graphiql.graphiql_page, max_body_bytes=max_body_bytes)
    app = Starlette(
        lifespan=lifespan,
        max_body_size=max_body_bytes,
        routes=[
            Route("/", _to_graphiql),
            *graphiql.static_routes(),
            Route("/graphql", graphql, max_body_size=sys.maxsize),  # it has a cap of its own, with a 413 in JSON
            WebSocketRoute("/graphql", graphql),
            *rest.routes(),
            *health.routes(),
        ],
    )
    app.add_middleware(RequestIds)
    return app


def serving() -> Starlette:
    """For `hookline serve`: the settings of the environment; delivering is the workers' part."""
    settings: Settings = read()
    return application(lambda: hookline(settings), settings.max_body_bytes)


async def _context_of(connection: HTTPConnection) -> Context:
    try:
        caller = await caller_of(connection)
    except Unauthenticated as refused:
        raise GraphQLRefused(401, "UNAUTHENTICATED", refused.message) from None
    except Forbidden as refused:
        raise GraphQLRefused(403, "FORBIDDEN", refused.message) from None
    except ValidationFailed as refused:
        raise GraphQLRefused(400, "BAD_REQUEST", refused.message) from None
    return Context(caller, request_id_of(connection))


async def _to_graphiql(request: Request) -> Response:
    return RedirectResponse("graphql")
