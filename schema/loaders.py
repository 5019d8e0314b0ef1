"""Loaders: each named as the sentence it answers, each asking the database once for all that one step needs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader

from models.attempt import Attempt
from models.delivery import Delivery
from models.event import Event
from models.event_pattern import matches
from models.event_type import EventType
from models.webhook import Webhook
from resolvers import deliveries, event_types, events, statistics, webhooks
from resolvers.caller import Caller
from resolvers.inputs import DeliveryFilter
from resolvers.paging import MAX_SIZE, Page, PageRequest
from resolvers.statistics import DeliveryStats, StatsBucket, StatsWindow

K = TypeVar("K")
V = TypeVar("V")


def _loader(ask: Callable[[list[K]], Awaitable[Mapping[K, V]]], at_once: int | None = None) -> DataLoader[K, V | None]:
    """A loader that asks for a dict; what is not in it is None. `at_once`: how many keys one question may have."""

    async def answers(keys: list[K]) -> Sequence[V | None]:
        found = await ask(keys)
        return [found.get(key) for key in keys]

    return DataLoader(answers, max_batch_size=at_once)


class Loaders:
    """The loaders of one operation of one caller. They keep what they found, so they must not outlive it."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._several: dict[str, DataLoader[UUID, Any]] = {}

    @cached_property
    def webhook_by_id(self) -> DataLoader[UUID, Webhook | None]:
        return _loader(lambda ids: webhooks.by_ids(self._caller, ids))

    @cached_property
    def event_by_id(self) -> DataLoader[UUID, Event | None]:
        return _loader(lambda ids: events.by_ids(self._caller, ids))

    @cached_property
    def delivery_by_id(self) -> DataLoader[UUID, Delivery | None]:
        return _loader(lambda ids: deliveries.by_ids(self._caller, ids))

    @cached_property
    def attempts_of_delivery(self) -> DataLoader[UUID, list[Attempt] | None]:
        return _loader(lambda ids: deliveries.attempts_of(self._caller, ids))

    @cached_property
    def body_of_delivery(self) -> DataLoader[UUID, bytes | None]:
        return _loader(lambda ids: deliveries.bodies_of(self._caller, ids))

    @cached_property
    def webhook_count_of_organization(self) -> DataLoader[UUID, int | None]:
        return _loader(webhooks.counts_by_organization)

    @cached_property
    def event_types_matching(self) -> DataLoader[tuple[str, ...], list[EventType]]:
        async def answers(keys: list[tuple[str, ...]]) -> list[list[EventType]]:
            catalogue = await event_types.list_(self._caller)
            return [[one for one in catalogue if any(matches(p, one.name) for p in patterns)] for patterns in keys]

        return DataLoader(answers)

    def stats_of_webhook(self, window: StatsWindow) -> DataLoader[UUID, DeliveryStats | None]:
        return self._one_of_several(f"stats {window}", lambda ids: statistics.of_webhooks(self._caller, ids, window))

    def buckets_of_webhook(self, window: StatsWindow, count: int) -> DataLoader[UUID, list[StatsBucket] | None]:
        return self._one_of_several(
            f"buckets {window} {count}", lambda ids: statistics.buckets_of(self._caller, ids, window, count)
        )

    def deliveries_of_webhook(
        self, filter: DeliveryFilter, request: PageRequest
    ) -> DataLoader[UUID, Page[Delivery] | None]:
        return self._one_of_several(
            f"deliveries {filter} {request}",
            lambda ids: deliveries.pages_of_webhooks(self._caller, ids, filter, request),
        )

    def delivery_count_of_webhook(self, filter: DeliveryFilter) -> DataLoader[UUID, int | None]:
        return self._one_of_several(
            f"delivery counts {filter}", lambda ids: deliveries.counts_of_webhooks(self._caller, ids, filter)
        )

    def deliveries_of_event(self, request: PageRequest) -> DataLoader[UUID, Page[Delivery] | None]:
        return self._one_of_several(
            f"deliveries of events {request}",
            lambda ids: deliveries.pages_of_events(self._caller, ids, request),
        )

    @cached_property
    def delivery_count_of_event(self) -> DataLoader[UUID, int | None]:
        return _loader(lambda ids: deliveries.counts_of_events(self._caller, ids))

    def _one_of_several(
        self, question: str, ask: Callable[[list[UUID]], Awaitable[Mapping[UUID, V]]]
    ) -> DataLoader[UUID, V | None]:
        """The loader of one question out of several that differ in their arguments."""
        loader = self._several.get(question)
        if loader is None:
            loader = self._several[question] = _loader(ask, at_once=MAX_SIZE)  # each key may be a query of its own
        return loader
