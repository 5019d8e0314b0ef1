"""The least that Strawberry can do: one field that answers a constant, behind the server that Hookline runs on.

    python -m benchmarks.bare PORT

Nobody is asked for a key, and no database. Strawberry's own caches of documents are on, as ours are: without them it
would spend most of its time on reading the same document again.
"""

import sys

import strawberry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from strawberry.asgi import GraphQL
from strawberry.extensions import ParserCache, ValidationCache

from app.serve import run, serve_until_told

PATH = "/graphql"
DOCUMENT = "{ hello }"


@strawberry.type
class Query:
    @strawberry.field
    async def hello(self) -> str:
        return "world"


async def ready(request: Request) -> Response:
    """As Hookline's own: whoever starts it asks."""
    return Response()


parsed, validated = ParserCache(maxsize=256), ValidationCache(maxsize=256)
schema = strawberry.Schema(Query, extensions=[lambda: parsed, lambda: validated])
app = Starlette(routes=[Route(PATH, GraphQL(schema)), Route("/health/ready", ready)])

if __name__ == "__main__":
    run(serve_until_told(app, "127.0.0.1", int(sys.argv[1])))
