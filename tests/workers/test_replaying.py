"""Replays under way: the engine sends what is new first, and the replayer makes what there is room for."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from models.delivery import Delivery, DeliveryStatus
from models.ids import Prefix, encode
from models.replay import Replay, ReplayStatus
from resolvers import events, replays, webhooks
from resolvers.caller import Caller
from resolvers.inputs import EventDraft, MomentRange, ReplayDraft, WebhookDraft
from tests.houses import id_of, new_caller, open_house, running, until
from tests.ledgers import unreliable
from tests.receivers import Exchange, Received, Receiver
from workers.announcements import Topic
from workers.engine import Engine, Pace
from workers.lanes import LaneRules
from workers.replaying import Replayer
from workers.targets import Targets

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def publish(caller: Caller, event_type: str, count: int) -> list[str]:
    published = await events.publish_many(caller, [EventDraft(event_type, {"n": n}) for n in range(count)])
    return [encode(Prefix.EVENT, one.event.id) for one in published]


def types(requests: list[Received]) -> list[str]:
    return ["new" if b"order.new" in request.body else "old" for request in requests]


async def test_a_new_event_overtakes_every_replayed_one_that_waits(database_url: str) -> None:
    first_is_answered = asyncio.Event()

    async def behaviour(exchange: Exchange) -> None:
        await first_is_answered.wait()
        await exchange.write(OK)

    async with open_house(database_url, concurrency=1) as house, Receiver(behaviour) as receiver:
        caller = await new_caller(house.desk)
        old = await publish(caller, "order.old", 50)
        webhook = (await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))).webhook
        await replays.create(caller, id_of(webhook), ReplayDraft(event_ids=old))
        async with running(house.engine.run()):
            await receiver.wait_for(1)
            await publish(caller, "order.new", 2)
            first_is_answered.set()
            await receiver.wait_for(52, timeout=60)
    assert types(list(receiver.requests)) == ["old", "new", "new", *["old"] * 49]


async def test_a_slow_receiver_keeps_room_for_what_is_new_while_replays_are_sent(database_url: str) -> None:
    answer = asyncio.Event()

    async def behaviour(exchange: Exchange) -> None:
        if b"order.old" in exchange.request.body:
            await answer.wait()
        await exchange.write(OK)

    async with open_house(database_url) as house, Receiver(behaviour) as receiver:
        desk = house.desk
        rules = LaneRules(most_in_flight=8)
        engine = Engine(desk.ledger, desk.courier, Targets(desk.sealer, desk.clock), desk.clock, Pace(), rules)
        caller = await new_caller(desk)
        old = await publish(caller, "order.old", 20)
        webhook = (await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))).webhook
        await replays.create(caller, id_of(webhook), ReplayDraft(event_ids=old))
        async with running(engine.run()):
            await receiver.wait_for(6)
            await publish(caller, "order.new", 5)
            engine.wake([(webhook.id, caller.organization_id)])
            await receiver.wait_for(11)
            assert types(list(receiver.requests)) == ["old"] * 6 + ["new"] * 5
            answer.set()
            await receiver.wait_for(25)


async def test_a_range_is_replayed_to_its_end_without_anybodys_doing(database_url: str) -> None:
    async with open_house(database_url) as house, Receiver() as receiver:
        caller, desk = await new_caller(house.desk), house.desk
        for _ in range(3):
            await publish(caller, "order.old", 700)
        webhook = (await webhooks.create(caller, WebhookDraft(receiver.url, ["order.*"]))).webhook
        replay = await replays.create(caller, id_of(webhook), ReplayDraft(missing=MomentRange()))
        replayer = Replayer(desk.ledger, desk.clock, desk.wake)
        async with running(house.engine.run()), running(replayer.run()), running(replayer.run()):

            async def is_completed() -> bool:
                await replay.refresh_from_db()
                return replay.status is ReplayStatus.COMPLETED

            await until(is_completed, timeout=60)
    assert (replay.total, replay.enqueued, replay.succeeded, replay.failed) == (2100, 2100, 2100, 0)
    ids = [request.header("webhook-id") for request in receiver.requests]
    assert (len(ids), len(set(ids))) == (2100, 2100)


async def test_replays_go_on_when_the_database_was_away(database_url: str) -> None:
    async with open_house(database_url) as house:
        caller, desk = await new_caller(house.desk), house.desk
        await publish(caller, "order.old", 3)
        webhook = (await webhooks.create(caller, WebhookDraft("http://127.0.0.1:9/", ["*"]))).webhook
        replay = await replays.create(caller, id_of(webhook), ReplayDraft(missing=MomentRange()))
        told, ledger = unreliable(desk.ledger)
        told.fail("append_repeats", 2)
        async with running(Replayer(ledger, desk.clock, desk.wake).run()):

            async def are_made() -> bool:
                return await Delivery.filter(replay_id=replay.id, status=DeliveryStatus.PENDING).count() == 3

            await until(are_made)
        assert told.calls["append_repeats"] == 3
        assert (await Replay.get(id=replay.id)).enqueued == 3


async def test_one_replay_that_cannot_go_on_does_not_hold_up_the_others(database_url: str) -> None:
    async with open_house(database_url) as house:
        caller, desk = await new_caller(house.desk), house.desk
        await publish(caller, "order.old", 3)
        broken, sound = [
            (await webhooks.create(caller, WebhookDraft(f"http://127.0.0.1:9/{n}", ["*"]))).webhook for n in range(2)
        ]
        first, second = [
            await replays.create(caller, id_of(webhook), ReplayDraft(missing=MomentRange()))
            for webhook in (broken, sound)
        ]
        told, ledger = unreliable(desk.ledger)
        told.fail("append_repeats", 1, lambda: ValueError("no such thing"))
        replayer = Replayer(ledger, lambda: desk.clock() + 2000, desk.wake)
        await replayer.advance_all()
        counts = [await Delivery.filter(replay_id=one.id).count() for one in (first, second)]
        assert counts == [0, 3]
        await replayer.advance_all()
        assert await Delivery.filter(replay_id=first.id).count() == 3


async def test_each_step_of_a_replay_is_announced(database_url: str) -> None:
    announced: list[tuple[Topic, list[UUID]]] = []

    def announce(topic: Topic, organizations: Iterable[UUID]) -> None:
        announced.append((topic, list(organizations)))

    async with open_house(database_url) as house:
        desk = replace(house.desk, announce=announce)
        caller = await new_caller(desk)
        await publish(caller, "order.old", 3)
        webhook = (await webhooks.create(caller, WebhookDraft("http://127.0.0.1:9/", ["*"]))).webhook
        replay = await replays.create(caller, id_of(webhook), ReplayDraft(missing=MomentRange()))
        announced.clear()
        replayer = Replayer(desk.ledger, lambda: desk.clock() + 2000, desk.wake, announce)
        of_ours = (Topic.REPLAYS, [caller.organization_id])
        await replayer.advance_all()
        assert announced == [of_ours]
        await replayer.advance_all()  # nothing to do until its deliveries have ended
        assert announced == [of_ours]
        await replays.cancel(caller, encode(Prefix.REPLAY, replay.id))
        assert announced == [of_ours] * 2
