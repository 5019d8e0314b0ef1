"""What has an id."""

from uuid import UUID

import strawberry

from models.ids import Prefix, encode


@strawberry.interface(
    description=(
        "Anything with an id. Ids are TypeIDs: a prefix that says what it names (`whk_` webhook, `evt_` event, `dlv_` "
        "delivery, `att_` attempt, `rpl_` replay, `org_` organization, `key_` API key), an underscore, and 26 "
        "characters that sort by age. The same id is used in GraphQL, in REST and in logs."
    )
)
class Node:
    id: strawberry.ID = strawberry.field(description="Unique, stable, and safe to store. At most 30 characters.")


def id_of(prefix: Prefix, uuid: UUID) -> strawberry.ID:
    """The id as callers see it."""
    return strawberry.ID(encode(prefix, uuid))
