"""The database: connecting to it, and bringing its tables up to date.

SQLite serves one process (`hookline dev`); PostgreSQL serves any number. `connect` answers with the ledger that
speaks the database's dialect.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from tortoise import Tortoise
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.connection import get_connection
from tortoise.exceptions import DBConnectionError, OperationalError
from tortoise.migrations.api.migrate import migrate as run_migrations

from models.ledger import Ledger
from models.ledger_postgres import PostgresLedger
from models.ledger_sqlite import SqliteLedger

_MODULES = [
    "models.organization",
    "models.api_key",
    "models.webhook",
    "models.event_type",
    "models.event",
    "models.delivery",
    "models.attempt",
    "models.replay",
    "models.session",
]
_SESSION = {
    "jit": "off",  # costs more than it saves on statements of a millisecond
    # PostgreSQL keeps the plan that it made when a table was small, long after that has grown, and would then read the
    # whole table at each claim. All that we ask goes along an index.
    "enable_seqscan": "off",
}
_ADVISORY_LOCK = 0x686F6F6B  # "hook": one migration at a time on PostgreSQL


def config(url: str, *, pool_size: int = 10, foreign_keys: bool = True) -> dict[str, Any]:
    """Tortoise's configuration for a database.

    `url` is `postgres://…` or `sqlite://path` (`sqlite://:memory:`). Raises ValueError for any other.
    """
    if is_sqlite(url):
        separator = "&" if "?" in url else "?"
        keys = "ON" if foreign_keys else "OFF"
        connection: Any = f"{url}{separator}synchronous=NORMAL&busy_timeout=10000&foreign_keys={keys}"
    elif url.startswith(("postgres://", "postgresql://")):
        connection = expand_db_url("asyncpg://" + url.partition("://")[2])
        connection["credentials"] |= {
            "minsize": min(2, pool_size),
            "maxsize": pool_size,
            "command_timeout": 30,
            "application_name": "hookline",
            "server_settings": _SESSION,
            # We keep no session state, so the round trip that clears it on each release is saved.
            "reset": _no_reset,
        }
    else:
        raise ValueError("the database URL must begin with postgres:// or sqlite://")
    return {
        "connections": {"default": connection},
        "apps": {"hookline": {"models": _MODULES, "migrations": "models.migrations"}},
        "use_tz": True,
    }


def is_sqlite(url: str) -> bool:
    """Whether the URL names an SQLite database, which only one process may use."""
    return url.startswith("sqlite://")


@asynccontextmanager
async def connect(url: str, *, pool_size: int = 10) -> AsyncIterator[Ledger]:
    """Opens the database for this process, models included, and closes it at the end."""
    await Tortoise.init(config=config(url, pool_size=pool_size), _enable_global_fallback=True)
    try:
        client = get_connection("default")
        yield SqliteLedger(client) if is_sqlite(url) else PostgresLedger(client)  # type: ignore[arg-type]
    finally:
        await Tortoise.close_connections()
        EXECUTOR_CACHE.clear()  # Tortoise keeps SQL by a connection's name: the next database may speak another dialect


async def migrate(url: str) -> None:
    """Brings the tables up to date. Safe to run at once from several processes: they take turns."""
    async with _alone(url):
        try:
            # Rebuilding a table on SQLite with foreign keys on would cascade its children away.
            await run_migrations(config=config(url, pool_size=1, foreign_keys=False))
        finally:
            await Tortoise.close_connections()


@asynccontextmanager
async def _alone(url: str) -> AsyncIterator[None]:
    if not is_sqlite(url):
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
            yield
        finally:
            await connection.close()
        return
    path = url.removeprefix("sqlite://").partition("?")[0]
    if path == ":memory:":
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(f"{path}.migrating", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


_TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that died while it was idle
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.TooManyConnectionsError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.TransactionRollbackError,
    DBConnectionError,
)


def is_transient(error: BaseException) -> bool:
    """Whether the database is only away for a moment, or in the way of itself: the same call may go through later."""
    if isinstance(error, OperationalError | sqlite3.OperationalError):
        return "database is locked" in str(error)
    return isinstance(error, _TRANSIENT)


async def _no_reset(connection: Any) -> None:
    """Stands for asyncpg's RESET between two users of a pooled connection."""


MIGRATIONS = config("sqlite://:memory:")
"""For Tortoise's own command line: `tortoise -c models.database.MIGRATIONS makemigrations`."""
