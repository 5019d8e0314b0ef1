"""The schema, put together."""

import strawberry
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.extensions.runner import SchemaExtensionsRunner
from strawberry.schema.config import StrawberryConfig
from strawberry.types.execution import ExecutionContext

from schema.api_key import ApiKey
from schema.delivery import DeliveryAttempt
from schema.errors import HANDLERS, for_callers
from schema.executor import PlannedExecutor
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.steps import Steps
from schema.subscription import Subscription


class Schema(strawberry.Schema):
    """Strawberry's schema, which takes our own steps, and tells callers of errors in our own words."""

    def create_extensions_runner(
        self, execution_context: ExecutionContext, extensions: list[SchemaExtension]
    ) -> SchemaExtensionsRunner:
        return Steps(execution_context, extensions)

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Rewrites an operation's errors in place. Strawberry calls it once for each result, streams included."""
        errors[:] = for_callers(errors, execution_context)


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[ApiKey, DeliveryAttempt],
    execution_context_class=PlannedExecutor,
    exception_handlers=HANDLERS,
    config=StrawberryConfig(scalar_map=SCALARS),
)
