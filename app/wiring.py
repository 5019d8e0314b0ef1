"""Putting the house together: who is given what. Everything below receives what it needs from here."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from arq.connections import ArqRedis
from redis.asyncio.connection import ConnectionPool

from app.access_tokens import AccessTokens
from app.contracts import CONTRACTS
from app.settings import Settings
from models import database
from models.moment import now_ms
from models.sealing import Sealer
from resolvers.desk import Desk, Limits
from resolvers.forgetting import Retention, forget
from resolvers.maintenance import sweep
from resolvers.publisher import Publisher
from resolvers.rate_limit import RateLimit
from resolvers.sources import StreamPace
from resolvers.streams import Streams
from workers import queue
from workers.address_guard import AddressGuard
from workers.announcements import Announcer, Listener
from workers.courier import Courier
from workers.engine import Engine, Pace
from workers.lanes import LaneRules
from workers.replaying import Replayer
from workers.resolver import SystemResolver
from workers.targets import Targets
from workers.transport import DeliveryTransport

log = logging.getLogger("hookline")


@dataclass(frozen=True, slots=True)
class House:
    """One process's parts."""

    settings: Settings
    desk: Desk
    engine: Engine
    redis: ArqRedis
    make_redis: Callable[[], ArqRedis]
    access_tokens: AccessTokens | None
    """Reads those of the issuer that the settings name."""


@asynccontextmanager
async def hookline(
    settings: Settings,
    make_redis: Callable[[], ArqRedis] | None = None,
    clock: Callable[[], int] = now_ms,
    stream_pace: StreamPace = StreamPace(),  # noqa: B008 — frozen
) -> AsyncIterator[House]:
    """Opens everything a process needs, and closes it at the end. What listens or delivers is started by others.

    `make_redis`: for the in-process Redis of `hookline dev`; otherwise the settings' URL is used. `clock` tells the
    milliseconds since 1970.
    """
    redis_of = make_redis or _redis_of(settings)
    async with contextlib.AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(
            database.connect(settings.database_url, pool_size=settings.database_pool)
        )
        redis = redis_of()
        stack.push_async_callback(_closed, redis)
        guard, resolver = AddressGuard(settings.allowed_networks), SystemResolver()
        # Kept per receiver: as many as a lane may have in flight, or a busy one would be dialed anew for most requests.
        transport = DeliveryTransport(guard=guard, resolver=resolver, idle_per_origin=LaneRules().most_in_flight)
        stack.push_async_callback(transport.aclose)
        access_tokens = AccessTokens(settings, transport, clock) if settings.oauth_issuer else None
        if access_tokens is not None:
            stack.push_async_callback(access_tokens.aclose)
        wake, announce = queue.WakeUp(redis), Announcer(redis)
        streams = Streams(Listener(redis_of), clock, stream_pace)
        stack.push_async_callback(streams.aclose)
        limits = Limits(
            max_webhooks=settings.max_webhooks,
            max_payload_bytes=settings.max_payload_bytes,
            idempotency_hours=settings.idempotency_hours,
            operation_seconds=settings.operation_seconds,
            payload_retention_days=settings.payload_retention_days,
        )
        publisher = Publisher(ledger, clock, wake, announce, limits.idempotency_hours * 3_600_000)
        sealer, courier = Sealer(settings.master_keys()), Courier(transport, clock)
        desk = Desk(
            ledger=ledger,
            sealer=sealer,
            guard=guard,
            resolver=resolver,
            courier=courier,
            publisher=publisher,
            wake=wake,
            rate_limit=RateLimit(settings.requests_per_second, settings.request_burst, clock),
            announce=announce,
            streams=streams,
            clock=clock,
            allow_http=settings.allow_http,
            api_versions=settings.api_versions,
            limits=limits,
            contracts=CONTRACTS,
        )
        pace = Pace(concurrency=settings.concurrency, failing_limit_ms=round(settings.failing_limit_hours * 3_600_000))
        engine = Engine(ledger, courier, Targets(sealer, clock), clock, pace, announce=announce)
        for work in (publisher.run(), wake.run(), announce.run()):
            await stack.enter_async_context(in_background(work))
        yield House(settings, desk, engine, redis, redis_of, access_tokens)


@asynccontextmanager
async def delivering(house: House) -> AsyncIterator[None]:
    """Runs the engine and takes arq jobs; at the end, lets what is in flight end, as long as the settings allow."""
    settings = house.settings
    retention = Retention(
        settings.payload_retention_days, settings.attempt_retention_days, settings.delivery_retention_days
    )
    jobs: dict[str, Any] = {
        "engine": house.engine,
        "sweep": lambda: sweep(house.desk),
        "forget": lambda: forget(house.desk, retention),
    }
    replayer = Replayer(house.desk.ledger, house.desk.clock, house.desk.wake, house.desk.announce)
    running = asyncio.create_task(house.engine.run())
    try:
        async with in_background(queue.work(house.make_redis, jobs)), in_background(replayer.run()):
            yield
    finally:
        house.engine.stop()
        try:
            async with asyncio.timeout(house.settings.drain_seconds):
                await asyncio.shield(running)
        except TimeoutError:
            log.warning("%d deliveries did not end in time and are given back", house.engine.in_flight)
            await house.engine.abandon()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@asynccontextmanager
async def in_background(work: Any) -> AsyncIterator[None]:
    """Runs a coroutine beside the block, and cancels it at the block's end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _redis_of(settings: Settings) -> Callable[[], ArqRedis]:
    def make() -> ArqRedis:
        return queue.connection(ConnectionPool.from_url(settings.redis_url, socket_connect_timeout=2))

    return make


async def _closed(redis: ArqRedis) -> None:
    with contextlib.suppress(Exception):
        await redis.aclose(close_connection_pool=True)
