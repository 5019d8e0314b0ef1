"""Organizations: the tenants; and who is asking."""

from datetime import datetime
from typing import Annotated

import strawberry

from models.ids import Prefix
from models.organization import Organization as OrganizationRow
from resolvers import desk, organizations
from resolvers.caller import Scope
from schema.api_key import ApiKey
from schema.context import Info
from schema.errors import Forbidden, NotFound, ValidationFailed
from schema.fields import field
from schema.node import Node, id_of


@strawberry.type(description="How much an organization may have, and how large things may be.")
class Limits:
    max_webhooks: int = strawberry.field(description="Webhooks that are not DISABLED, at one time.")
    max_event_patterns_per_webhook: int = strawberry.field(description="Length of `eventPatterns`.")
    max_payload_bytes: int = strawberry.field(description="Of an event's `data`, as JSON.")
    max_page_size: int = strawberry.field(description="The most that `first` and `last` may be.")
    max_query_depth: int = strawberry.field(description="Levels of fields in one GraphQL document.")
    payload_retention_days: int = strawberry.field(
        description="How long an event can be read and replayed after it was published."
    )

    @classmethod
    def of(cls, limits: desk.Limits) -> "Limits":
        return cls(
            max_webhooks=limits.max_webhooks,
            max_event_patterns_per_webhook=limits.max_event_patterns,
            max_payload_bytes=limits.max_payload_bytes,
            max_page_size=limits.max_page_size,
            max_query_depth=limits.max_query_depth,
            payload_retention_days=limits.payload_retention_days,
        )


@strawberry.type(
    description=(
        "A tenant; everything else belongs to one, and none sees anything of another. The product that Hookline stands "
        "beside makes one for each of its customers."
    )
)
class Organization(Node):
    row: strawberry.Private[OrganizationRow]
    name: str = strawberry.field(description="For people to read.")
    external_id: str | None = strawberry.field(description="The customer's id in the product's own words; unique.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @field(description="How many webhooks it has, whatever their status.")
    async def webhook_count(self, info: Info) -> int:
        return await info.context.loaders.webhook_count_of_organization.load(self.row.id) or 0

    @field(description="How much it may have.")
    def limits(self, info: Info) -> Limits:
        return Limits.of(organizations.limits_of(info.context.caller.desk, self.row))

    @classmethod
    def of(cls, row: OrganizationRow) -> "Organization":
        return cls(
            id=id_of(Prefix.ORGANIZATION, row.id),
            row=row,
            name=row.name,
            external_id=row.external_id,
            created_at=row.created_at,
        )


@strawberry.type(
    description=(
        "How many requests a key may make of each server process; one more is answered with status 429 and "
        "`Retry-After`. Each publication in a mutation but the first counts as a request."
    )
)
class RateLimit:
    per_second: int = strawberry.field(description="How fast what was used comes back.")
    burst: int = strawberry.field(description="How many may come at once.")
    remaining: int = strawberry.field(description="How many may come at once now.")


@strawberry.type(description="Who is asking, and for whom.")
class Viewer:
    organization_row: strawberry.Private[OrganizationRow]

    @field(
        description=(
            "The organization that the key acts for: its own, or, with scope `platform`, the one that the header "
            "`Hookline-Organization` names by its id or its external id."
        )
    )
    def organization(self) -> Organization:
        return Organization.of(self.organization_row)

    @field(description="The key that was shown.")
    def api_key(self, info: Info) -> ApiKey:
        return ApiKey.of(info.context.caller.key)

    @field(description="What the key may do, with `*` spelt out.")
    def scopes(self, info: Info) -> list[str]:
        return [str(scope) for scope in Scope if scope in info.context.caller.scopes]

    @field(description="How much the organization may have.")
    def limits(self, info: Info) -> Limits:
        return Limits.of(organizations.limits_of(info.context.caller.desk, self.organization_row))

    @field(description="How much the key may ask. Null: there is no limit.")
    def rate_limit(self, info: Info) -> RateLimit | None:
        caller = info.context.caller
        rate = caller.desk.rate_limit
        if not rate.per_second:
            return None
        return RateLimit(per_second=rate.per_second, burst=rate.burst, remaining=rate.remaining(caller.bucket))


@strawberry.input(description="A new organization.")
class CreateOrganizationInput:
    name: str = strawberry.field(description="For people to read; at most 200 characters.")
    external_id: str | None = strawberry.field(
        description=(
            "Your own id for this customer, at most 200 characters. One that exists returns that organization, "
            "unchanged: safe to repeat."
        )
    )
    max_webhooks: int | None = strawberry.field(
        description="Webhooks it may have that are not DISABLED: 0 to 10,000. Left out: the server's setting."
    )


@strawberry.input(description="What to change: what is left out stays; null clears, where null can be read.")
class UpdateOrganizationInput:
    id: strawberry.ID = strawberry.field(description="`org_…`")
    name: strawberry.Maybe[str | None] = strawberry.field(description="At most 200 characters; cannot be null.")
    external_id: strawberry.Maybe[str | None] = strawberry.field(
        description="Your own id for this customer, unique, at most 200 characters."
    )
    max_webhooks: strawberry.Maybe[int | None] = strawberry.field(
        description="0 to 10,000. Null: the server's setting again."
    )


@strawberry.input(description="Which organization to end.")
class DeleteOrganizationInput:
    id: strawberry.ID = strawberry.field(description="`org_…`")


@strawberry.type(description="The organization exists.")
class CreateOrganizationPayload:
    organization: Organization = strawberry.field(description="The organization.")
    created: bool = strawberry.field(description="False when the external id was known: this is the one that has it.")


@strawberry.type(description="The organization is changed.")
class UpdateOrganizationPayload:
    organization: Organization = strawberry.field(description="The organization as it stands.")


@strawberry.type(description="The organization is ended: its keys are refused, and what was waiting is canceled.")
class DeleteOrganizationPayload:
    deleted_organization_id: strawberry.ID = strawberry.field(description="The id that was given.")


CreateOrganizationResult = Annotated[
    CreateOrganizationPayload | ValidationFailed | Forbidden,
    strawberry.union(
        "CreateOrganizationResult",
        description="What `createOrganization` answers. An externalId that exists returns that organization.",
    ),
]
UpdateOrganizationResult = Annotated[
    UpdateOrganizationPayload | ValidationFailed | NotFound | Forbidden,
    strawberry.union("UpdateOrganizationResult", description="What `updateOrganization` answers."),
]
DeleteOrganizationResult = Annotated[
    DeleteOrganizationPayload | NotFound | Forbidden,
    strawberry.union("DeleteOrganizationResult", description="What `deleteOrganization` answers."),
]
