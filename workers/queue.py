"""The wake-up: an arq job says which webhooks may have something due. It is only a hint: losing it loses nothing.

Retries, leases and order are the database's. Redis may be wiped, stopped or absent: a worker polls its database every
second all the same, and publishing never waits for Redis.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from arq.connections import ArqRedis
from arq.cron import cron
from arq.worker import Worker, func
from redis.exceptions import RedisError

from workers import jobs
from workers.lanes import Due

log = logging.getLogger("hookline.queue")

QUEUE = "hookline:jobs"
_BELL = f"{QUEUE}:bell"
_IDS = 64
"""Wake-ups of one process that may stand in the queue at once; with more, the workers know already."""
_NAMED = 200
"""Webhooks that a wake-up names; when there are more, it says only that there is something."""
_EVERY_FIVE = set(range(3, 60, 5))
_REST_SECONDS = 0.01
_AWAY_SECONDS = 1.0


def connection(pool: Any) -> ArqRedis:
    """arq's client on a redis-py connection pool. Opens nothing yet, so a Redis that is away does no harm."""
    return ArqRedis(
        pool_or_conn=pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads, default_queue_name=QUEUE
    )


class WakeUp:
    """Nudges the workers: at once, then at most every 10 ms however often it is called."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._wanted = asyncio.Event()
        self._due: set[Due] = set()
        self._process = secrets.token_hex(4)  # a job of another process under the same id would swallow ours
        self._turn = 0
        self._away = False

    def __call__(self, due: Iterable[Due]) -> None:
        """Something of these webhooks has become due. Returns at once and never fails. Call it after the commit."""
        self._due |= set(due)
        self._wanted.set()

    async def run(self) -> None:
        """Passes nudges on until it is cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._ring()
                self._away = False
                await asyncio.sleep(_REST_SECONDS)
            except (RedisError, OSError) as error:
                if not self._away:
                    self._away = True
                    log.warning("Redis is away, workers go by their own polls: %s", error)
                await asyncio.sleep(_AWAY_SECONDS)

    async def _ring(self) -> None:
        self._turn = (self._turn + 1) % _IDS
        due, self._due = self._due, set()
        named = [[str(webhook), str(organization)] for webhook, organization in due] if len(due) <= _NAMED else None
        job_id = f"deliver_due:{self._process}:{self._turn}"
        await self._redis.enqueue_job("deliver_due", named, _job_id=job_id, _expires=60)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(_BELL, 1)
            pipe.ltrim(_BELL, 0, _IDS - 1)
            await pipe.execute()


class BellWorker(Worker):
    """An arq worker that looks into its queue when the bell rings, not only at every poll.

    Stock arq starts a job up to `poll_delay` late; with the bell it is a few milliseconds.
    """

    async def main(self) -> None:
        self.ctx["redis"] = self.pool
        rung = asyncio.Event()
        listening = asyncio.create_task(self._listen(rung))
        try:
            while True:
                rung.clear()
                await self._poll_iteration()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(rung.wait(), self.poll_delay_s)
                if listening.done():
                    await listening
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError, RedisError, OSError):
                await listening

    async def close(self) -> None:
        """As arq's own, which leaves connections open when a job was under way or Redis is away."""
        self.handle_sig(signal.SIGUSR1)
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        try:
            await self.pool.delete(self.health_check_key)
        finally:
            await self.pool.aclose(close_connection_pool=True)

    async def _listen(self, rung: asyncio.Event) -> None:
        while True:
            ring: Any = self.pool.blpop([_BELL], timeout=5)
            if await ring:
                rung.set()


async def work(make_redis: Callable[[], ArqRedis], context: dict[str, Any]) -> None:
    """Takes jobs until it is cancelled. When Redis goes away it waits for it and begins anew."""
    away = False
    while True:
        worker = BellWorker(
            functions=[func(jobs.deliver_due, keep_result=0)],
            cron_jobs=[
                cron(jobs.sweep, minute={7, 37}, second=0, keep_result=0, unique=True),
                cron(jobs.forget, minute=_EVERY_FIVE, second=30, keep_result=0, unique=True, timeout=280),
            ],
            redis_pool=make_redis(),
            queue_name=QUEUE,
            ctx=dict(context),
            handle_signals=False,
            max_jobs=20,
            queue_read_limit=1000,
            poll_delay=1.0,
            keep_result=0,
            job_timeout=60,
            health_check_interval=15,
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
        )
        try:
            await worker.async_run()
        except (RedisError, OSError) as error:
            if not away:
                away = True
                log.warning("Redis is away, this worker goes by its own polls: %s", error)
            await asyncio.sleep(_AWAY_SECONDS)
        finally:
            with contextlib.suppress(asyncio.CancelledError, RedisError, OSError):
                await worker.close()
