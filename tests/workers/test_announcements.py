"""Announcements on a real Redis: they reach whoever waits, in any process, and cost those who announce nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from arq.connections import ArqRedis
from redis.asyncio.connection import ConnectionPool

from models.ids import new_id
from tests.houses import in_process_redis, running, until
from tests.services import Redis, redis_server
from workers import queue
from workers.announcements import Announcer, Listener, Topic

MakeRedis = Callable[[], ArqRedis]


def clients_of(url: str) -> MakeRedis:
    return lambda: queue.connection(ConnectionPool.from_url(url))


@pytest.fixture(params=["real", "in process"])
def make_redis(request: pytest.FixtureRequest) -> MakeRedis:
    return in_process_redis() if request.param == "in process" else clients_of(request.getfixturevalue("redis").url)


@asynccontextmanager
async def announcing(make_redis: MakeRedis) -> AsyncIterator[Announcer]:
    """An announcer that passes on what it is told."""
    redis = make_redis()
    announcer = Announcer(redis)
    async with running(announcer.run()):
        yield announcer
    await redis.aclose(close_connection_pool=True)


async def _quiet(wake: asyncio.Event) -> None:
    """Waits for the nudge that comes with the connection, and takes it."""
    await asyncio.wait_for(wake.wait(), 10)
    wake.clear()


async def test_an_announcement_wakes_who_waits_for_its_topic_and_organization(make_redis: MakeRedis) -> None:
    ours, theirs = new_id(), new_id()
    listener, other_process = Listener(make_redis), Listener(make_redis)
    wakes = [asyncio.Event() for _ in range(4)]
    async with announcing(make_redis) as announce:
        with (
            listener.nudged(wakes[0], ours, Topic.ATTEMPTS, Topic.EVENTS),
            listener.nudged(wakes[1], theirs, Topic.EVENTS),
            listener.nudged(wakes[2], ours, Topic.WEBHOOKS),
            other_process.nudged(wakes[3], ours, Topic.EVENTS),
        ):
            for wake in wakes:
                await _quiet(wake)
            announce(Topic.EVENTS, [ours])
            await until(lambda: wakes[0].is_set() and wakes[3].is_set())
            assert [wake.is_set() for wake in wakes] == [True, False, False, True]
    await listener.aclose()
    await other_process.aclose()


async def test_a_connection_is_held_only_while_somebody_waits(redis: Redis) -> None:
    listener = Listener(clients_of(redis.url))

    async def is_heard_by(count: int) -> bool:
        return await redis.command("PUBLISH", "hookline:news", "null") == b":%d" % count

    assert not listener.is_listening
    first, second = asyncio.Event(), asyncio.Event()
    with listener.nudged(first, new_id(), Topic.EVENTS):
        await _quiet(first)
        with listener.nudged(second, new_id(), Topic.EVENTS):
            assert await is_heard_by(1)
        assert listener.is_listening
    await until(lambda: not listener.is_listening)
    await until(lambda: is_heard_by(0))


async def test_announcements_that_come_at_once_are_one_message(redis: Redis) -> None:
    make_redis = clients_of(redis.url)
    organizations = [new_id() for _ in range(2000)]
    hearing = make_redis()
    heard = hearing.pubsub(ignore_subscribe_messages=True)
    await heard.subscribe("hookline:news")
    assert await heard.get_message(timeout=10) is None  # that it is subscribed

    async def message() -> bytes:
        async with asyncio.timeout(10):
            while True:
                found = await heard.get_message(timeout=10)
                if found is not None:
                    return bytes(found["data"])

    async with announcing(make_redis) as announce:
        for organization in organizations:
            announce(Topic.EVENTS, [organization])
        assert await message() == b"null"  # too many to name: there may be something of any
        for _ in range(100):
            announce(Topic.ATTEMPTS, organizations[:1])
        assert await message() == b'[["attempts","%s"]]' % str(organizations[0]).encode()
    await heard.aclose()  # type: ignore[no-untyped-call]
    await hearing.aclose(close_connection_pool=True)


async def test_while_nobody_listens_few_announcements_are_made_and_who_comes_hears_the_next(redis: Redis) -> None:
    make_redis = clients_of(redis.url)
    listener, ours, wake = Listener(make_redis), new_id(), asyncio.Event()
    asking = make_redis()
    async with announcing(make_redis) as announce:
        before, began = await _published(asking), asyncio.get_running_loop().time()
        for _ in range(60):
            announce(Topic.EVENTS, [ours])
            await asyncio.sleep(0.01)
        seconds = asyncio.get_running_loop().time() - began
        assert 1 <= await _published(asking) - before <= seconds / 0.1 + 1
        with listener.nudged(wake, ours, Topic.EVENTS):
            await _quiet(wake)
            announce(Topic.EVENTS, [ours])
            await asyncio.wait_for(wake.wait(), 10)
    await listener.aclose()
    await asking.aclose(close_connection_pool=True)


async def _published(redis: ArqRedis) -> int:
    """How many messages Redis was given to pass on."""
    told = await redis.info("commandstats")
    return int(told.get("cmdstat_publish", {"calls": 0})["calls"])


async def test_announcing_goes_on_while_redis_is_away_and_is_heard_when_it_is_back() -> None:
    with redis_server() as server:
        listener = Listener(clients_of(server.url))
        ours, wake = new_id(), asyncio.Event()
        async with announcing(clients_of(server.url)) as announce:
            with listener.nudged(wake, ours, Topic.EVENTS):
                await _quiet(wake)
                server.stop()
                for _ in range(100):
                    announce(Topic.EVENTS, [ours])
                server.start()
                await _quiet(wake)  # it cannot know what it missed
                await until(lambda: _is_heard(announce, ours, wake))
        await listener.aclose()


async def _is_heard(announce: Announcer, organization: UUID, wake: asyncio.Event) -> bool:
    announce(Topic.EVENTS, [organization])
    await asyncio.sleep(0.05)
    return wake.is_set()
