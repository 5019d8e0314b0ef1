"""`@requiresScopes`: printed in the schema, and checked before the field's resolver is called."""

from collections.abc import Awaitable, Callable
from typing import Any

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.schema_directive import Location
from strawberry.types.field import StrawberryField

from resolvers.caller import Scope
from schema.context import Info


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="requiresScopes",
    description=(
        "Who may select the field: an API key that has all scopes of one of the inner lists. From other keys a "
        "mutation answers with `Forbidden`; any other field is null, beside an error whose `extensions.code` is "
        "FORBIDDEN and whose `extensions.requiredScopes` says what is missing."
    ),
)
class RequiresScopesDirective:
    scopes: list[list[str]]


class RequiresScopes(FieldExtension):
    """Refuses callers that lack one of the scopes, with the resolvers' own Forbidden."""

    def __init__(self, *scopes: Scope) -> None:
        self.scopes = scopes

    def apply(self, field: StrawberryField) -> None:
        printed = RequiresScopesDirective(scopes=[[str(scope) for scope in self.scopes]])
        field.directives = [*field.directives, printed]

    def resolve(self, next_: Callable[..., Any], source: Any, info: Info, **arguments: Any) -> Any:
        info.context.caller.require(*self.scopes)
        return next_(source, info, **arguments)

    async def resolve_async(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: Info, **arguments: Any
    ) -> Any:
        info.context.caller.require(*self.scopes)
        return await next_(source, info, **arguments)
