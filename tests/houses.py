"""A house for the tests of every room: wired as in `hookline dev`, on any database, with a clock the test may turn.

async with open_house(database_url, clock) as house:
    caller = await new_caller(house.desk)
    webhook = (await webhooks.create(caller, WebhookDraft(receiver.url, ["order.*"]))).webhook
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from arq.connections import ArqRedis
from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection
from pydantic import SecretStr
from redis.asyncio.connection import ConnectionPool
from tortoise.connection import get_connection

from app.settings import Settings
from app.wiring import House, hookline
from models.ids import Prefix, encode
from models.moment import now_ms
from models.organization import Organization
from models.sealing import new_master_key
from models.webhook import Webhook
from resolvers import keys, organizations
from resolvers.caller import Caller
from resolvers.desk import Desk
from resolvers.sources import StreamPace
from workers import queue

TABLES = ("organization", "api_key", "event_type", "webhook", "webhook_health", "event", "delivery", "attempt")
OTHER_TABLES = ("delivery_rollup", "delivery_tally", "webhook_gate", "idempotency", "replay", "ended_session")


class ManualClock:
    """A clock that stands still until it is told otherwise. Milliseconds since 1970."""

    def __init__(self, now: int = 1_795_219_200_000) -> None:  # 2026-11-21T00:00:00Z
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, **span: float) -> int:
        """`advance(hours=1)`: the new time."""
        self.now += round(timedelta(**span).total_seconds() * 1000)
        return self.now


def in_process_redis() -> Callable[[], ArqRedis]:
    """Clients of one Redis that lives in this process."""
    server = FakeServer(server_type="redis", version=(7,))

    def make() -> ArqRedis:
        return queue.connection(ConnectionPool(connection_class=FakeAsyncRedisConnection, server=server))

    return make


@asynccontextmanager
async def open_house(
    database_url: str,
    clock: Callable[[], int] = now_ms,
    make_redis: Callable[[], ArqRedis] | None = None,
    stream_pace: StreamPace = StreamPace(),  # noqa: B008 — frozen
    **settings: Any,
) -> AsyncIterator[House]:
    """A house that may reach loopback, by plain http too. Nothing is delivered unless the test starts the engine."""
    chosen = Settings(
        **{
            "database_url": database_url,
            "master_key": SecretStr(new_master_key()),
            "allowed_networks": (ip_network("127.0.0.0/8"), ip_network("::1/128")),
            "allow_http": True,
            **settings,
        }
    )
    async with hookline(chosen, make_redis or in_process_redis(), clock, stream_pace) as house:
        yield house


async def new_caller(
    desk: Desk, *scopes: str, organization: Organization | None = None, external_id: str | None = None
) -> Caller:
    """A caller with a key of its own (for everything, unless told less), by default in a new organization."""
    organization = organization or await organizations.create_named("Acme", external_id)
    _, token = await keys.create_for(organization.id, "a key", list(scopes or ("*",)))
    caller = await keys.authenticate(desk, token)
    assert caller is not None
    return caller


def id_of(webhook: Webhook) -> str:
    """`whk_…`"""
    return encode(Prefix.WEBHOOK, webhook.id)


async def stored(tables: Sequence[str] = (*TABLES, *OTHER_TABLES)) -> dict[str, list[dict[str, Any]]]:
    """All that is stored, to show that nothing changed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        rows = await get_connection("default").execute_query_dict(f"SELECT * FROM {table}")
        found[table] = sorted(({name: _plain(v) for name, v in row.items()} for row in rows), key=repr)
    return found


@asynccontextmanager
async def running(work: Any) -> AsyncIterator["asyncio.Task[Any]"]:
    """Runs a coroutine beside the block, and cancels it at the block's end. Its errors are the block's."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], Any], timeout: float = 10) -> None:
    """Waits until something holds that comes about by itself; `condition` may be a coroutine function."""
    async with asyncio.timeout(timeout):
        while True:
            answer = condition()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.005)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL that is sent meanwhile."""
    sent: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sent.append(record.getMessage())

    logger, keep = logging.getLogger("tortoise.db_client"), Keep()
    level = logger.level
    logger.addHandler(keep)
    logger.setLevel(logging.DEBUG)
    try:
        yield sent
    finally:
        logger.removeHandler(keep)
        logger.setLevel(level)
