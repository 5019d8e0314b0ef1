"""Event types: the catalogue."""

from typing import Annotated

import strawberry

from models.event_type import EventType as EventTypeRow
from resolvers.inputs import EventTypeDraft
from schema.errors import Forbidden, ValidationFailed
from schema.scalars import JSON


@strawberry.type(
    description=(
        "A kind of event that the organization publishes. Once there is one in the catalogue, an event must be of a "
        "kind that is in it; an empty catalogue accepts any well-formed name."
    )
)
class EventType:
    name: str = strawberry.field(
        description="Words joined by dots or slashes, such as `order.created`. Unique in the organization."
    )
    description: str | None = strawberry.field(description="What happened, for whoever writes the receiver.")
    deprecation_reason: str | None = strawberry.field(description="Set when receivers should stop relying on it.")
    json_schema: JSON | None = strawberry.field(
        description="JSON Schema (2020-12) of the event's `data`. When set, an event that does not match is refused."
    )
    example: JSON | None = strawberry.field(description="An example of the event's `data`.")

    @classmethod
    def of(cls, row: EventTypeRow) -> "EventType":
        return cls(
            name=row.name,
            description=row.description,
            deprecation_reason=row.deprecation_reason,
            json_schema=row.json_schema,
            example=row.example,
        )


@strawberry.input(description="An entry of the catalogue, written whole: what is left out is empty afterwards.")
class PutEventTypeInput:
    name: str = strawberry.field(
        description="Words joined by dots or slashes, such as `order.created`; at most 200 characters."
    )
    description: str | None = strawberry.field(description="What happened. At most 2,000 characters.")
    deprecation_reason: str | None = strawberry.field(
        description="Why receivers should stop relying on it, and on what instead. At most 2,000 characters."
    )
    json_schema: JSON | None = strawberry.field(
        description="JSON Schema (2020-12) of the event's `data`; at most 64 KiB, with no reference to other documents."
    )
    example: JSON | None = strawberry.field(
        description="An example of the event's `data`; at most 64 KiB, and matching the schema if there is one."
    )

    def to_draft(self) -> EventTypeDraft:
        return EventTypeDraft(self.name, self.description, self.deprecation_reason, self.json_schema, self.example)


@strawberry.type(description="The entry is in the catalogue.")
class PutEventTypePayload:
    event_type: EventType = strawberry.field(description="The entry as it stands.")


PutEventTypeResult = Annotated[
    PutEventTypePayload | ValidationFailed | Forbidden,
    strawberry.union("PutEventTypeResult", description="What `putEventType` answers."),
]
