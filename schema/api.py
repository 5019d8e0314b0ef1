"""The schema, put together."""

from collections.abc import Iterator

import strawberry
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types.execution import ExecutionContext

from schema.api_key import ApiKey
from schema.context import Context
from schema.delivery import DeliveryAttempt
from schema.errors import HANDLERS, for_callers
from schema.limits import Documents
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription


class FreshLoaders(SchemaExtension):
    """Gives each operation loaders of its own; one connection may carry many operations."""

    def on_operation(self) -> Iterator[None]:
        context = self.execution_context.context
        if isinstance(context, Context):
            self.execution_context.context = context.for_one_operation()
        yield


class Schema(strawberry.Schema):
    """Strawberry's schema, which tells callers of errors in our own words."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Rewrites an operation's errors in place. Strawberry calls it once for each result, streams included."""
        errors[:] = for_callers(errors, execution_context)


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[ApiKey, DeliveryAttempt],
    extensions=[FreshLoaders, Documents],
    exception_handlers=HANDLERS,
    config=StrawberryConfig(scalar_map=SCALARS),
)
