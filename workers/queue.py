"""The wake-up: it says which webhooks may have something due. It is only a hint: losing it loses nothing.

    publish ──► WakeUp ──at once──► the bell, a Redis list ──► one worker's engine
                       ──at times─► an arq job ──────────────► the same, of whichever worker takes it

The bell takes a tenth of what a job does, and is heard a few milliseconds earlier. The job is for what the bell misses,
and is there as long as nobody has done it. Retries, leases and order are the database's. Redis may be wiped, stopped or
absent: a worker polls its database every second all the same, and publishing never waits for Redis.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import orjson
from arq.connections import ArqRedis
from arq.cron import cron
from arq.worker import Worker, func
from redis.exceptions import RedisError

from workers import jobs
from workers.lanes import Due

log = logging.getLogger("hookline.queue")

Named = Sequence[Sequence[str]]
"""Webhooks, each with its organization."""

QUEUE = "hookline:jobs"
BELL = f"{QUEUE}:bell"
_A_JOB = b"job"
"""What the bell says when there is a job. Else it names webhooks, or none when they are too many: a list in JSON."""
_IDS = 64
"""Wake-ups of one process that may stand in the queue at once; with more, the workers know already."""
_NAMED = 200
"""Webhooks that a wake-up names; when there are more, it says only that there is something."""
_EVERY_FIVE = set(range(3, 60, 5))
_RINGS_APART_S = 0.01
_JOBS_APART_S = 1.0
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
        self._ways = _Way(self._ring, _RINGS_APART_S), _Way(self._enqueue, _JOBS_APART_S)
        self._process = secrets.token_hex(4)  # a job of another process under the same id would swallow ours
        self._turn = 0
        self._away = False

    def __call__(self, due: Iterable[Due]) -> None:
        """Something of these webhooks has become due. Returns at once and never fails. Call it after the commit."""
        due = list(due)
        for way in self._ways:
            way.note(due)

    async def run(self) -> None:
        """Passes nudges on until it is cancelled."""
        await asyncio.gather(*(self._use(way) for way in self._ways))

    async def _use(self, way: "_Way") -> None:
        while True:
            try:
                await way.pass_on()
                self._away = False
                await asyncio.sleep(way.seconds_apart)
            except (RedisError, OSError) as error:
                if not self._away:
                    self._away = True
                    log.warning("Redis is away, workers go by their own polls: %s", error)
                await asyncio.sleep(_AWAY_SECONDS)

    async def _ring(self, named: Named | None) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(BELL, orjson.dumps(named or []))
            pipe.ltrim(BELL, 0, _IDS - 1)
            await pipe.execute()

    async def _enqueue(self, named: Named | None) -> None:
        self._turn = (self._turn + 1) % _IDS
        job_id = f"deliver_due:{self._process}:{self._turn}"
        await self._redis.enqueue_job("deliver_due", named, _job_id=job_id, _expires=60)
        await self._redis.lpush(BELL, _A_JOB)  # type: ignore[misc]


class _Way:
    """One of the ways to the workers, and what is still to be said on it."""

    def __init__(self, send: Callable[[Named | None], Awaitable[None]], seconds_apart: float) -> None:
        self.seconds_apart = seconds_apart
        self._send = send
        self._due: set[Due] = set()
        self._some = asyncio.Event()

    def note(self, due: Iterable[Due]) -> None:
        self._due.update(due)
        self._some.set()

    async def pass_on(self) -> None:
        """Waits until there is something to say, and says it; `None` when that would be too much."""
        await self._some.wait()
        self._some.clear()
        due, self._due = self._due, set()
        await self._send(
            [(str(webhook), str(organization)) for webhook, organization in due] if len(due) <= _NAMED else None
        )


class BellWorker(Worker):
    """An arq worker that wakes its engine when the bell rings, and looks into its queue when the bell says so.

    Stock arq starts a job up to `poll_delay` late.
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
            ring: Any = self.pool.blpop([BELL], timeout=5)
            if heard := await ring:
                _, said = heard
                if said.startswith(b"["):
                    jobs.wake(self.ctx, orjson.loads(said) or None)
                else:
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
