"""Announcements: after a commit, every process is told which organizations have something new. Only a nudge.

    writer ──announce──► Announcer ──Redis pub/sub──► Listener ──sets an event──► whoever waits reads the database

What there is stands in the database, and whoever waits looks there every second all the same. So announcing never
waits and never fails, messages may be lost, and Redis may be away.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from arq.connections import ArqRedis
from redis.exceptions import RedisError

log = logging.getLogger("hookline.announcements")

_CHANNEL = "hookline:news"
_NAMED = 500
"""Things that one message names; when there are more, it says only that there is something."""
_REST_SECONDS = 0.01
_UNHEARD_REST_SECONDS = 0.1
"""After an announcement that nobody heard: a hundred of them a second were a thirtieth of a busy worker's time."""
_AWAY_SECONDS = 1.0


class Topic(StrEnum):
    """What there may be something new of."""

    ATTEMPTS = "attempts"
    EVENTS = "events"
    WEBHOOKS = "webhooks"
    REPLAYS = "replays"


Announce = Callable[[Topic, Iterable[UUID]], None]
"""Says that organizations have something new. Call it after the commit. Returns at once and never fails."""


def unheard(topic: Topic, organizations: Iterable[UUID]) -> None:
    """Announces to nobody: for work that nobody watches."""


class Announcer:
    """Tells all processes: at once, then at most every 10 ms however often it is called, or 100 if nobody listens."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._news: set[tuple[Topic, UUID]] = set()
        self._some = asyncio.Event()

    def __call__(self, topic: Topic, organizations: Iterable[UUID]) -> None:
        """These organizations have something new."""
        self._news.update((topic, organization_id) for organization_id in organizations)
        self._some.set()

    async def run(self) -> None:
        """Passes announcements on until it is cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            news, self._news = self._news, set()
            named = [[topic, str(organization)] for topic, organization in news] if len(news) <= _NAMED else None
            try:
                listeners = await self._redis.publish(_CHANNEL, orjson.dumps(named))
                await asyncio.sleep(_REST_SECONDS if listeners else _UNHEARD_REST_SECONDS)
            except (RedisError, OSError):  # whoever waits looks by itself
                await asyncio.sleep(_AWAY_SECONDS)


class Listener:
    """Wakes whoever waits in this process when announcements come. Connected to Redis only while somebody waits."""

    def __init__(self, make_redis: Callable[[], ArqRedis]) -> None:
        self._make_redis = make_redis
        self._waiting: dict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._away = False

    @property
    def is_listening(self) -> bool:
        """Whether it holds a connection, or tries to."""
        return self._listening is not None or bool(self._ending)

    @contextlib.contextmanager
    def nudged(self, wake: asyncio.Event, organization_id: UUID, *topics: Topic) -> Iterator[None]:
        """Sets the event when the organization may have something new of these topics, as long as the block lasts."""
        keys = [(str(topic), str(organization_id)) for topic in topics]
        for key in keys:
            self._waiting[key].add(wake)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            for key in keys:
                self._waiting[key].discard(wake)
                if not self._waiting[key]:
                    del self._waiting[key]
            if not self._waiting:
                self._stop()

    async def aclose(self) -> None:
        """Hears nothing more."""
        self._stop()
        if self._ending:
            await asyncio.wait(list(self._ending))

    def _stop(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            self._ending.add(self._listening)
            self._listening.add_done_callback(self._ending.discard)
            self._listening = None

    async def _listen(self) -> None:
        while True:
            redis = self._make_redis()
            pubsub = redis.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(_CHANNEL)
                self._away = False
                self._heard(None)  # what was announced meanwhile was missed
                async for message in pubsub.listen():
                    self._heard(orjson.loads(message["data"]))
            except (RedisError, OSError) as error:
                if not self._away:
                    self._away = True
                    log.warning("Redis is away, live streams look into the database every second: %s", error)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
                with contextlib.suppress(RedisError, OSError):
                    await redis.aclose(close_connection_pool=True)
            await asyncio.sleep(_AWAY_SECONDS)

    def _heard(self, named: Any) -> None:
        """`named`: pairs of a topic and an organization; None: there may be something of any."""
        keys = list(self._waiting) if named is None else [(topic, organization) for topic, organization in named]
        for key in keys:
            for wake in self._waiting.get(key, ()):
                wake.set()
