"""REST, for old callers and small ones: a thin door that calls the same resolvers as GraphQL.

`routes()` goes into the ASGI app, `openapi_document()` says what is served. A contract is one more `Dialect`.
"""

from app.rest.openapi import openapi_document
from app.rest.routes import routes

__all__ = ["openapi_document", "routes"]
