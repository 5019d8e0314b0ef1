"""What each operation asks of a key: tried with every scope but that, and with that alone."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from app.wiring import House
from models.ids import Prefix, encode, new_id
from resolvers import deliveries, event_types, events, keys, organizations, statistics, webhooks
from resolvers.caller import Caller, Scope
from resolvers.errors import Forbidden, NotFound
from resolvers.inputs import (
    DeliveryFilter,
    EventDraft,
    EventTypeDraft,
    WebhookChange,
    WebhookDraft,
    WebhookFilter,
)
from resolvers.paging import PageRequest
from resolvers.statistics import StatsWindow
from tests.houses import new_caller, stored

SOME = new_id()
WHK, EVT, DLV, ATT, KEY, ORG = (
    encode(prefix, SOME)
    for prefix in (
        Prefix.WEBHOOK, Prefix.EVENT, Prefix.DELIVERY, Prefix.ATTEMPT, Prefix.API_KEY, Prefix.ORGANIZATION,
    )
)  # fmt: skip
PAGE = PageRequest(first=1)
FILTER = DeliveryFilter()

OPERATIONS: list[tuple[Scope, Callable[[Caller], Awaitable[object]]]] = [
    (Scope.WEBHOOKS_READ, lambda c: webhooks.get(c, WHK)),
    (Scope.WEBHOOKS_READ, lambda c: webhooks.list_(c, WebhookFilter(), PAGE)),
    (Scope.WEBHOOKS_READ, lambda c: webhooks.count(c, WebhookFilter())),
    (Scope.WEBHOOKS_READ, lambda c: webhooks.by_ids(c, [SOME])),
    (Scope.WEBHOOKS_READ, lambda c: statistics.of_webhooks(c, [SOME], StatsWindow.DAY)),
    (Scope.WEBHOOKS_READ, lambda c: statistics.buckets_of(c, [SOME], StatsWindow.DAY, 1)),
    (Scope.WEBHOOKS_WRITE, lambda c: webhooks.create(c, WebhookDraft("https://1.1.1.1", ["a"]))),
    (Scope.WEBHOOKS_WRITE, lambda c: webhooks.update(c, WHK, WebhookChange())),
    (Scope.WEBHOOKS_WRITE, lambda c: webhooks.delete(c, WHK)),
    (Scope.WEBHOOKS_WRITE, lambda c: webhooks.rotate_secret(c, WHK)),
    (Scope.WEBHOOKS_WRITE, lambda c: webhooks.expire_previous_secret(c, WHK)),
    (Scope.WEBHOOKS_WRITE, lambda c: webhooks.test(c, WHK)),
    (Scope.WEBHOOKS_WRITE, lambda c: webhooks.get_for_writing(c, WHK)),
    (Scope.EVENTS_READ, lambda c: events.get(c, EVT)),
    (Scope.EVENTS_READ, lambda c: events.list_(c, PAGE)),
    (Scope.EVENTS_READ, lambda c: events.by_ids(c, [SOME])),
    (Scope.EVENTS_PUBLISH, lambda c: events.publish(c, EventDraft("a", 1))),
    (Scope.EVENTS_PUBLISH, lambda c: events.publish_many(c, [EventDraft("a", 1)])),
    (Scope.DELIVERIES_READ, lambda c: deliveries.get(c, DLV)),
    (Scope.DELIVERIES_READ, lambda c: deliveries.list_(c, FILTER, PAGE)),
    (Scope.DELIVERIES_READ, lambda c: deliveries.count(c, FILTER)),
    (Scope.DELIVERIES_READ, lambda c: deliveries.by_ids(c, [SOME])),
    (Scope.DELIVERIES_READ, lambda c: deliveries.attempts_of(c, [SOME])),
    (Scope.DELIVERIES_READ, lambda c: deliveries.attempt(c, ATT)),
    (Scope.DELIVERIES_READ, lambda c: deliveries.pages_of_webhooks(c, [SOME], FILTER, PAGE)),
    (Scope.DELIVERIES_READ, lambda c: deliveries.pages_of_events(c, [SOME], PAGE)),
    (Scope.DELIVERIES_READ, lambda c: deliveries.counts_of_webhooks(c, [SOME], FILTER)),
    (Scope.DELIVERIES_READ, lambda c: deliveries.counts_of_events(c, [SOME])),
    (Scope.DELIVERIES_READ, lambda c: deliveries.bodies_of(c, [SOME])),
    (Scope.ADMIN, lambda c: event_types.put(c, EventTypeDraft("a"))),
    (Scope.ADMIN, lambda c: keys.list_(c)),
    (Scope.ADMIN, lambda c: keys.create(c, name="k", scopes=["admin"])),
    (Scope.ADMIN, lambda c: keys.revoke(c, KEY)),
    (Scope.PLATFORM, lambda c: organizations.act_for(c, ORG)),
    (Scope.PLATFORM, lambda c: organizations.get(c, id=ORG)),
    (Scope.PLATFORM, lambda c: organizations.by_ids(c, [SOME])),
    (Scope.PLATFORM, lambda c: organizations.list_(c, PAGE)),
    (Scope.PLATFORM, lambda c: organizations.count(c)),
    (Scope.PLATFORM, lambda c: organizations.create(c, name="n")),
    (Scope.PLATFORM, lambda c: organizations.update(c, ORG, name="n")),
    (Scope.PLATFORM, lambda c: organizations.delete(c, ORG)),
]


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_each_operation_wants_its_scope_and_no_other(house: House) -> None:
    every = [str(scope) for scope in Scope if scope is not Scope.EVERYTHING]
    for scope in sorted({scope for scope, _ in OPERATIONS}):
        lacking = await new_caller(house.desk, *(one for one in every if one != scope))
        before = await stored()
        for wanted, operation in OPERATIONS:
            if wanted is scope:
                with pytest.raises(Forbidden) as refused:
                    await operation(lacking)
                assert refused.value.required_scopes == (str(scope),)
        assert await stored() == before
        having = await new_caller(house.desk, str(scope))
        for wanted, operation in OPERATIONS:
            if wanted is scope:
                with suppress(NotFound):
                    await operation(having)
