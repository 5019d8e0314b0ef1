"""How long lists are: what is counted as it ends, and forgotten as it goes, is what a plain count of the rows finds."""

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import combinations
from uuid import UUID

import pytest

from app.wiring import House
from models.attempt import AttemptOutcome
from models.delivery import Delivery, DeliveryStatus
from models.ids import Prefix, encode, new_id
from models.ledger import AttemptRecord, Claimed, Settlement
from models.moment import from_ms, now_ms
from models.organization import Organization
from models.webhook import Webhook, WebhookStatus
from resolvers import deliveries, events, organizations, replays, webhooks
from resolvers.caller import Caller
from resolvers.forgetting import Retention, forget
from resolvers.inputs import DeliveryFilter, EventDraft, ReplayDraft, WebhookChange, WebhookDraft
from resolvers.paging import PageRequest
from tests.houses import ManualClock, id_of, new_caller, open_house, stored
from workers.replaying import advance

STORIES = 5
STEPS = 40
SUCCEEDED, DEAD_LETTERED = DeliveryStatus.SUCCEEDED, DeliveryStatus.DEAD_LETTERED
EVERYTHING_OLD = Retention(payload_days=1, attempt_days=1, delivery_days=1)
SUBSETS = [None, *(list(some) for n in range(len(DeliveryStatus) + 1) for some in combinations(DeliveryStatus, n))]


@dataclass
class Story:
    """An organization to which things happen in a random order."""

    house: House
    caller: Caller
    clock: ManualClock
    chance: random.Random
    held: list[Claimed] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    async def step(self) -> None:
        names = ("publish", "claim", "settle", "wait", "test", "turn", "delete", "replay", "cancel_replay", "forget")
        name = self.chance.choices(names, (8, 8, 8, 3, 1, 3, 1, 3, 1, 3))[0]
        self.told.append(name)
        await getattr(self, name)()

    async def publish(self) -> None:
        if await Webhook.filter(organization_id=self.caller.organization_id, deleted_at__isnull=True).count() < 3:
            await webhooks.create(self.caller, WebhookDraft("http://127.0.0.1:9/", ["*"]))
        drafts = [EventDraft("order.paid", n) for n in range(self.chance.randrange(1, 6))]
        await events.publish_many(self.caller, drafts)

    async def claim(self) -> None:
        ledger = self.house.desk.ledger
        lanes = {lane.webhook_id: self.chance.randrange(1, 6) for lane in await ledger.lanes()}
        self.held += await ledger.claim(self.clock(), lanes, lanes)

    async def settle(self) -> None:
        self.chance.shuffle(self.held)
        some, self.held = self.held[:6], self.held[6:]
        settlements = [self._settlement(one) for one in some]
        await self.house.desk.ledger.settle(settlements, self.clock(), 2**60)
        if self.chance.random() < 0.3:
            self.held += some  # and is told once more, which is refused

    def _settlement(self, claimed: Claimed) -> Settlement:
        outcome = self.chance.choice([AttemptOutcome.SUCCESS, AttemptOutcome.HTTP_ERROR])
        attempt = AttemptRecord(new_id(), claimed.number, outcome, None, self.clock(), 1000)
        if outcome is AttemptOutcome.SUCCESS:
            return Settlement(claimed, SUCCEEDED, None, attempt)
        if self.chance.random() < 0.5:
            return Settlement(claimed, DeliveryStatus.RETRYING, self.clock() + 1000, attempt)
        return Settlement(claimed, DEAD_LETTERED, None, attempt, gone=self.chance.random() < 0.2)

    async def wait(self) -> None:
        self.clock.advance(seconds=self.chance.choice([1, 60]))  # for a retry, or until leases have run out

    async def test(self) -> None:
        if webhook := await self._webhook():
            await webhooks.test(self.caller, id_of(webhook))

    async def turn(self) -> None:
        if webhook := await self._webhook():
            change = WebhookChange(status=self.chance.choice(list(WebhookStatus)))
            await webhooks.update(self.caller, id_of(webhook), change)

    async def delete(self) -> None:
        if webhook := await self._webhook():
            await webhooks.delete(self.caller, id_of(webhook))

    async def replay(self) -> None:
        published = await events.list_(self.caller, PageRequest(first=3))
        webhook = await self._webhook(status=WebhookStatus.ENABLED)
        if webhook and published.items:
            ids = [encode(Prefix.EVENT, event.id) for event in published.items]
            replay = await replays.create(self.caller, id_of(webhook), ReplayDraft(event_ids=ids))
            await advance(self.house.desk.ledger, self.house.desk.wake, self.clock(), replay.id, webhook.id)
            self.replayed = encode(Prefix.REPLAY, replay.id)

    replayed: str | None = None

    async def cancel_replay(self) -> None:
        if self.replayed is not None and (await replays.get(self.caller, self.replayed)).completed_at is None:
            await replays.cancel(self.caller, self.replayed)

    async def forget(self) -> None:
        later = self.clock() + 2 * 24 * 3_600_000
        await forget(replace(self.house.desk, clock=lambda: later), EVERYTHING_OLD)

    async def _webhook(self, **filter: object) -> Webhook | None:
        rows = await Webhook.filter(organization_id=self.caller.organization_id, deleted_at__isnull=True, **filter)
        return self.chance.choice(rows) if rows else None

    async def check(self) -> None:
        """Every list of this organization is as long as it says, all states together and any choice of them."""
        rows: Counter[tuple[UUID, DeliveryStatus]] = Counter()
        for delivery in await Delivery.filter(organization_id=self.caller.organization_id):
            rows[delivery.webhook_id, delivery.status] += 1
        ids = [row.id for row in await Webhook.filter(organization_id=self.caller.organization_id)]
        for wanted in [None, *self.chance.sample(SUBSETS, 3)]:
            states = list(DeliveryStatus) if wanted is None else wanted
            expected = {one: sum(rows[one, status] for status in states) for one in ids}
            asked = DeliveryFilter(status=wanted)
            assert await deliveries.counts_of_webhooks(self.caller, ids, asked) == expected, self.told
            assert await deliveries.count(self.caller, asked) == sum(expected.values()), self.told
            for one in ids[:1]:
                assert await deliveries.count(self.caller, asked, webhook_id=one) == expected[one], self.told


async def test_whatever_happens_lists_are_as_long_as_they_say(database_url: str) -> None:
    clock = ManualClock(now_ms())
    ended_as: set[DeliveryStatus] = set()
    async with open_house(database_url, clock) as house:
        for seed in range(STORIES):
            mine, other = [
                Story(house, await new_caller(house.desk), clock, random.Random(seed + 100 * n)) for n in range(2)
            ]
            for _ in range(STEPS):
                story = mine.chance.choice([mine, other])
                await story.step()
                await mine.check()
                await other.check()
            ended_as |= {row["status"] for row in (await stored(["delivery_tally"]))["delivery_tally"] if row["ended"]}
    assert ended_as == {SUCCEEDED, DEAD_LETTERED, DeliveryStatus.CANCELED}


@pytest.fixture
async def delivered(caller: Caller, clock: ManualClock) -> list[Webhook]:
    """Three webhooks, of which the first had two deliveries, the second one, and the third none."""
    made = [(await webhooks.create(caller, WebhookDraft("https://1.1.1.1/", [wanted]))).webhook for wanted in "abc"]
    await events.publish_many(caller, [EventDraft(name, 0) for name in "aab"])
    ledger = caller.desk.ledger
    for claimed in await ledger.claim(clock(), {row.id: 9 for row in made}):
        attempt = AttemptRecord(new_id(), 1, AttemptOutcome.SUCCESS, None, clock(), 1000)
        await ledger.settle([Settlement(claimed, SUCCEEDED, None, attempt)], clock(), 2**60)
    return made


async def test_another_organizations_webhooks_have_nothing_to_count(delivered: list[Webhook], caller: Caller) -> None:
    ids = [row.id for row in delivered]
    stranger = await new_caller(caller.desk)
    assert await deliveries.counts_of_webhooks(caller, ids, DeliveryFilter()) == dict(zip(ids, (2, 1, 0), strict=True))
    assert await deliveries.counts_of_webhooks(stranger, ids, DeliveryFilter()) == dict.fromkeys(ids, 0)
    assert await deliveries.count(stranger, DeliveryFilter()) == 0
    assert await deliveries.count(stranger, DeliveryFilter(), webhook_id=ids[0]) == 0


async def test_a_deleted_webhooks_deliveries_still_count_for_its_organization(
    delivered: list[Webhook], caller: Caller
) -> None:
    await webhooks.delete(caller, id_of(delivered[0]))
    assert await deliveries.count(caller, DeliveryFilter()) == 3


async def test_an_ended_organization_leaves_no_tally_behind(delivered: list[Webhook], caller: Caller) -> None:
    platform = await new_caller(caller.desk, "platform", "*")
    await organizations.delete(platform, encode(Prefix.ORGANIZATION, caller.organization_id))
    await Organization.filter(id=caller.organization_id).update(deleted_at=from_ms(caller.desk.clock() - 10**9))
    assert len((await stored(["delivery_tally"]))["delivery_tally"]) == 2
    await forget(caller.desk, Retention())
    assert (await stored(["delivery_tally"]))["delivery_tally"] == []
