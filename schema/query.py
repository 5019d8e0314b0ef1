"""What can be asked."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import strawberry
from strawberry.types.arguments import StrawberryArgumentAnnotation

from models.ids import Prefix, encode, prefix_of
from resolvers import deliveries, event_types, events, keys, organizations, previews, replays, signatures, webhooks
from resolvers.caller import Caller, Scope
from resolvers.errors import NotFound
from resolvers.inputs import WebhookFilter
from schema.api_key import ApiKey
from schema.context import Info
from schema.delivery import (
    DateTimeRangeInput,
    Delivery,
    DeliveryAttempt,
    DeliveryFilterInput,
    connection,
    delivery_filter,
)
from schema.event import Event
from schema.event_type import EventType
from schema.fields import field
from schema.node import Node
from schema.organization import Organization, Viewer
from schema.paging import After, Before, Connection, CountedConnection, First, Last, given, page_request
from schema.preview import DeliveryPreview, PreviewDeliveryInput, PreviewDeliveryResult
from schema.replay import Replay
from schema.scopes import RequiresScopes
from schema.signature import CheckSignatureInput, CheckSignatureResult, SignatureReport
from schema.webhook import OrderDirection, Webhook, WebhookFilterInput, WebhookOrder, WebhookOrderField, headers_of

T = TypeVar("T")

_LATEST_FIRST = WebhookOrder(field=WebhookOrderField.CREATED_AT, direction=OrderDirection.DESC)


def _id(prefix: Prefix) -> StrawberryArgumentAnnotation:
    return strawberry.argument(description=f"`{prefix}_…`")


@strawberry.type(
    description=(
        "What can be asked. Everything is of the organization that the API key acts for: an id of another organization "
        "is not found. Lists take `first` and `after`, or `last` and `before`; with neither, the first 20; never more "
        "than 100."
    )
)
class Query:
    @field(description="Who is asking, and for whom. Open to every key.")
    async def viewer(self, info: Info) -> Viewer:
        return Viewer(organization_row=await organizations.own(info.context.caller))

    @field(
        description=(
            "Anything by its id; null when your organization has nothing with this id. Needs the scope that the query "
            "for its kind needs, such as `webhooks:read` for `whk_…`."
        )
    )
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="Any id, such as `whk_…`.")]
    ) -> Node | None:
        prefix = prefix_of(id)
        return await _or_none(_NODES[prefix](info.context.caller, id)) if prefix in _NODES else None

    @field(
        description="One webhook; null when your organization has none with this id.",
        extensions=[RequiresScopes(Scope.WEBHOOKS_READ)],
    )
    async def webhook(self, info: Info, id: Annotated[strawberry.ID, _id(Prefix.WEBHOOK)]) -> Webhook | None:
        return await _or_none(_webhook(info.context.caller, id))

    @field(description="The webhooks, the latest first.", extensions=[RequiresScopes(Scope.WEBHOOKS_READ)])
    async def webhooks(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        filter: Annotated[
            WebhookFilterInput | None, strawberry.argument(description="Which of them.")
        ] = strawberry.UNSET,
        order_by: Annotated[WebhookOrder, strawberry.argument(description="In which order.")] = _LATEST_FIRST,
    ) -> CountedConnection[Webhook] | None:
        caller, wanted = info.context.caller, filter.to_filter() if filter else WebhookFilter()
        request = page_request(first, after, last, before)
        page = await webhooks.list_(caller, wanted, request, order_by.to_order())
        return CountedConnection(page=page, shown=Webhook.of, count=lambda: webhooks.count(caller, wanted))

    @field(
        description="One delivery; null when your organization has none with this id.",
        extensions=[RequiresScopes(Scope.DELIVERIES_READ)],
    )
    async def delivery(self, info: Info, id: Annotated[strawberry.ID, _id(Prefix.DELIVERY)]) -> Delivery | None:
        return await _or_none(_delivery(info.context.caller, id))

    @field(
        description="The deliveries to all webhooks, the latest first.",
        extensions=[RequiresScopes(Scope.DELIVERIES_READ)],
    )
    async def deliveries(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        filter: Annotated[
            DeliveryFilterInput | None, strawberry.argument(description="Which of them.")
        ] = strawberry.UNSET,
    ) -> CountedConnection[Delivery] | None:
        caller, wanted = info.context.caller, delivery_filter(filter)
        page = await deliveries.list_(caller, wanted, page_request(first, after, last, before))
        return connection(page, lambda: deliveries.count(caller, wanted))

    @field(
        description="One event; null when your organization has none with this id.",
        extensions=[RequiresScopes(Scope.EVENTS_READ)],
    )
    async def event(self, info: Info, id: Annotated[strawberry.ID, _id(Prefix.EVENT)]) -> Event | None:
        return await _or_none(_event(info.context.caller, id))

    @field(
        description="What was published, the latest first. Events made by `testWebhook` are left out.",
        extensions=[RequiresScopes(Scope.EVENTS_READ)],
    )
    async def events(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        types: Annotated[
            list[str] | None,
            strawberry.argument(description="Only events of one of these types, exactly; no patterns."),
        ] = strawberry.UNSET,
        received: Annotated[
            DateTimeRangeInput | None, strawberry.argument(description="Only what was published in this span.")
        ] = strawberry.UNSET,
    ) -> Connection[Event] | None:
        request = page_request(first, after, last, before)
        span = received.to_range() if received else None
        page = await events.list_(info.context.caller, request, types=given(types), received=span)
        return Connection(page=page, shown=Event.of)

    @field(
        description="The catalogue of event types, by name. Open to every key. Empty: any well-formed name is accepted."
    )
    async def event_types(
        self,
        info: Info,
        matching: Annotated[
            list[str] | None,
            strawberry.argument(
                description="Only what one of these matches: an event type, a prefix such as `order.*`, or `*`."
            ),
        ] = strawberry.UNSET,
    ) -> list[EventType]:
        return [EventType.of(row) for row in await event_types.list_(info.context.caller, given(matching))]

    @field(
        description="One replay; null when your organization has none with this id.",
        extensions=[RequiresScopes(Scope.DELIVERIES_READ)],
    )
    async def replay(self, info: Info, id: Annotated[strawberry.ID, _id(Prefix.REPLAY)]) -> Replay | None:
        return await _or_none(_replay(info.context.caller, id))

    @field(
        description="The organization's API keys, the latest first, revoked and expired ones included.",
        extensions=[RequiresScopes(Scope.ADMIN)],
    )
    async def api_keys(self, info: Info) -> list[ApiKey] | None:
        return [ApiKey.of(row) for row in await keys.list_(info.context.caller)]

    @field(
        description="One organization, by its id or by your own; give one of the two. Null when there is none.",
        extensions=[RequiresScopes(Scope.PLATFORM)],
    )
    async def organization(
        self,
        info: Info,
        id: Annotated[strawberry.ID | None, _id(Prefix.ORGANIZATION)] = strawberry.UNSET,
        external_id: Annotated[
            str | None, strawberry.argument(description="The customer's id in the product's own words.")
        ] = strawberry.UNSET,
    ) -> Organization | None:
        caller = info.context.caller
        found = await _or_none(organizations.get(caller, id=given(id), external_id=given(external_id)))
        return None if found is None else Organization.of(found)

    @field(description="All organizations, the latest first.", extensions=[RequiresScopes(Scope.PLATFORM)])
    async def organizations(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        name_contains: Annotated[
            str | None, strawberry.argument(description="Only those whose name contains this, in upper or lower case.")
        ] = strawberry.UNSET,
    ) -> CountedConnection[Organization] | None:
        caller, part = info.context.caller, given(name_contains)
        page = await organizations.list_(caller, page_request(first, after, last, before), part)
        return CountedConnection(page=page, shown=Organization.of, count=lambda: organizations.count(caller, part))

    @field(
        description=(
            "Exactly what would be sent (body, headers, signatures, and a command that sends it), without sending it."
        ),
        extensions=[RequiresScopes(Scope.WEBHOOKS_READ)],
    )
    async def preview_delivery(self, info: Info, input: PreviewDeliveryInput) -> PreviewDeliveryResult:
        target, event = input.target.to_target(), input.event.to_event()
        return DeliveryPreview.of(await previews.preview(info.context.caller, target, event))

    @field(
        description=(
            "Paste what your receiver saw, and learn whether its signatures are right; and if not, why. It knows a "
            "changed body, an old or another secret, a wrong clock, and a secret that was not base64-decoded."
        ),
        extensions=[RequiresScopes(Scope.WEBHOOKS_READ)],
    )
    async def check_signature(self, info: Info, input: CheckSignatureInput) -> CheckSignatureResult:
        headers = headers_of(input.headers)
        return SignatureReport.of(await signatures.check(info.context.caller, input.webhook_id, headers, input.body))


async def _or_none(found: Awaitable[T]) -> T | None:
    try:
        return await found
    except NotFound:
        return None


async def _webhook(caller: Caller, id: str) -> Webhook:
    return Webhook.of(await webhooks.get(caller, id))


async def _event(caller: Caller, id: str) -> Event:
    return Event.of(await events.get(caller, id))


async def _delivery(caller: Caller, id: str) -> Delivery:
    return Delivery.of(await deliveries.get(caller, id))


async def _attempt(caller: Caller, id: str) -> DeliveryAttempt:
    return DeliveryAttempt.of(await deliveries.attempt(caller, id))


async def _replay(caller: Caller, id: str) -> Replay:
    return Replay.of(await replays.get(caller, id))


async def _api_key(caller: Caller, id: str) -> ApiKey:
    for row in await keys.list_(caller):
        if id == encode(Prefix.API_KEY, row.id):
            return ApiKey.of(row)
    raise NotFound(id)


async def _organization(caller: Caller, id: str) -> Organization:
    if id == encode(Prefix.ORGANIZATION, caller.organization_id):
        return Organization.of(await organizations.own(caller))
    return Organization.of(await organizations.get(caller, id=id))


_NODES: dict[Prefix | None, Callable[[Caller, str], Awaitable[Node]]] = {
    Prefix.WEBHOOK: _webhook,
    Prefix.EVENT: _event,
    Prefix.DELIVERY: _delivery,
    Prefix.ATTEMPT: _attempt,
    Prefix.REPLAY: _replay,
    Prefix.API_KEY: _api_key,
    Prefix.ORGANIZATION: _organization,
}
