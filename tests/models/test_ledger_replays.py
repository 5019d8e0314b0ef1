"""What replays made, in the ledger: it waits behind everything new, and is counted where it belongs."""

from uuid import UUID

import pytest

from models.attempt import AttemptOutcome
from models.delivery import Delivery, DeliveryStatus, DeliveryTrigger
from models.ids import new_id
from models.ledger import Repeat, WaitingLane
from models.moment import from_ms
from models.replay import Replay, ReplaySelection
from tests.models.bench import Bench, states

PENDING, SENDING, RETRYING, SUCCEEDED, DEAD_LETTERED, CANCELED = DeliveryStatus


async def new_replay(bench: Bench, webhook_id: UUID) -> UUID:
    replay = await Replay.create(
        id=new_id(),
        organization_id=bench.organization_id,
        webhook_id=webhook_id,
        selection=ReplaySelection.MISSING,
        created_at=from_ms(bench.clock()),
    )
    return replay.id


async def repeat(bench: Bench, replay_id: UUID, webhook_id: UUID, count: int = 1) -> list[UUID]:
    """Deliveries made by a replay, of events of their own; their ids."""
    events = [bench.event() for _ in range(count)]
    await bench.ledger.append(events, [], bench.clock(), 1000)
    made = [
        Repeat(new_id(), bench.organization_id, webhook_id, event.id, event.type, replay_id, None) for event in events
    ]
    await bench.ledger.append_repeats(made, bench.clock())
    return [one.id for one in made]


async def test_a_repeat_is_due_at_once_and_knows_its_replay(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    replay_id = await new_replay(bench, webhook_id)
    [delivery_id] = await repeat(bench, replay_id, webhook_id)
    row = await Delivery.get(id=delivery_id)
    assert (row.status, row.trigger, row.replay_id) == (PENDING, DeliveryTrigger.REPLAY, replay_id)
    assert row.due_at == row.created_at == from_ms(bench.clock())
    assert await bench.ledger.lanes() == [
        WaitingLane(webhook_id, bench.organization_id, bench.clock(), is_replayed=True)
    ]
    claimed = await bench.claim_one()
    assert (claimed.id, claimed.replay_id, claimed.trigger) == (delivery_id, replay_id, DeliveryTrigger.REPLAY)


async def test_what_is_new_is_claimed_before_what_was_replayed_long_ago(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    replayed = await repeat(bench, await new_replay(bench, webhook_id), webhook_id, 5)
    bench.clock.advance(hours=1)
    new = await bench.publish(webhook_id, count=3)
    first = await bench.ledger.claim(bench.clock(), {webhook_id: 3}, {webhook_id: 3})
    assert {claimed.id for claimed in first} == set(new)
    second = await bench.ledger.claim(bench.clock(), {webhook_id: 3}, {webhook_id: 3})
    assert {claimed.id for claimed in second} <= set(replayed)
    assert len(second) == 3


async def test_replays_get_what_is_left_and_no_more_than_they_may(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    await repeat(bench, await new_replay(bench, webhook_id), webhook_id, 10)
    await bench.publish(webhook_id, count=2)
    claimed = await bench.ledger.claim(bench.clock(), {webhook_id: 6}, {webhook_id: 3})
    assert sorted(one.trigger for one in claimed) == [DeliveryTrigger.EVENT] * 2 + [DeliveryTrigger.REPLAY] * 3
    assert await bench.ledger.claim(bench.clock(), {webhook_id: 6}, {webhook_id: 0}) == []
    assert await bench.ledger.claim(bench.clock(), {webhook_id: 6}) == []


async def test_a_replay_makes_one_delivery_of_an_event(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    replay_id = await new_replay(bench, webhook_id)
    await repeat(bench, replay_id, webhook_id)
    row = await Delivery.get(replay_id=replay_id)
    again = Repeat(new_id(), row.organization_id, webhook_id, row.event_id, row.event_type, replay_id, None)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await bench.ledger.append_repeats([again], bench.clock())
    assert await Delivery.filter(replay_id=replay_id).count() == 1
    await bench.ledger.append_repeats(
        [Repeat(new_id(), row.organization_id, webhook_id, row.event_id, row.event_type, new_id(), row.id)],
        bench.clock(),
    )  # another replay may


async def test_what_ends_is_counted_by_its_replay(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    first, second = await new_replay(bench, webhook_id), await new_replay(bench, webhook_id)
    await repeat(bench, first, webhook_id, 3)
    await repeat(bench, second, webhook_id, 1)
    claims = sorted(await bench.claim(), key=lambda one: (one.replay_id or first, one.id))
    ok, failed, retried, other = claims
    await bench.settle(
        bench.settlement(ok),
        bench.settlement(failed, AttemptOutcome.HTTP_ERROR),
        bench.settlement(retried, AttemptOutcome.HTTP_ERROR, retry_in=1000),
        bench.settlement(other),
    )
    counts = {row.id: (row.succeeded, row.failed) for row in await Replay.all()}
    assert counts == {first: (1, 1), second: (1, 0)}
    assert await bench.settle(bench.settlement(ok)) == set()  # under an old token
    assert {row.id: (row.succeeded, row.failed) for row in await Replay.all()} == counts


async def test_canceling_a_replay_leaves_what_is_being_sent_and_what_is_not_its_own(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    replay_id, other = await new_replay(bench, webhook_id), await new_replay(bench, webhook_id)
    [new] = await bench.publish(webhook_id)
    sending = await repeat(bench, replay_id, webhook_id)
    await bench.ledger.claim(bench.clock(), {webhook_id: 2}, {webhook_id: 1})
    waiting, others = await repeat(bench, replay_id, webhook_id, 2), await repeat(bench, other, webhook_id)
    assert await bench.ledger.cancel_replayed(replay_id, bench.clock()) == 2
    assert await states([*sending, *waiting, *others, new]) == [SENDING, CANCELED, CANCELED, PENDING, SENDING]
    assert await bench.counters(webhook_id) == {"canceled": 2}


async def test_what_a_replay_made_is_parked_and_canceled_with_its_webhook(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    made = await repeat(bench, await new_replay(bench, webhook_id), webhook_id, 2)
    assert await bench.ledger.park(webhook_id) == 2
    assert await bench.claim() == []
    assert await bench.ledger.unpark(webhook_id, bench.clock()) == 2
    assert len(await bench.ledger.claim(bench.clock(), {webhook_id: 1}, {webhook_id: 1})) == 1
    assert await bench.ledger.cancel_waiting(webhook_id, bench.clock()) == 1
    assert sorted(await states(made)) == [SENDING, CANCELED]
