"""Connecting, and bringing the tables up to date."""

import asyncio
import re
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from tortoise import Tortoise
from tortoise.apps import Apps
from tortoise.connection import get_connection
from tortoise.migrations.api.migrate import migrate as run_migrations
from tortoise.migrations.autodetector import MigrationAutodetector

from models import ledger_postgres
from models.database import MIGRATIONS, config, connect, is_sqlite, is_transient, migrate
from models.delivery import OPEN, Delivery, DeliveryStatus
from models.ids import new_id
from models.ledger import Ledger
from models.moment import from_ms
from tests.models.bench import Bench, select

ROOT = Path(__file__).parent.parent.parent

_TROUBLE = "last_outcome <> 1 OR last_outcome IS NULL AND completed_at IS NOT NULL OR last_outcome IS NOT NULL"
INDEXES = {
    "delivery_due": ("delivery", ["webhook_id", "due_at"], "due_at IS NOT NULL AND replay_id IS NULL"),
    "delivery_due_replayed": ("delivery", ["webhook_id", "due_at"], "due_at IS NOT NULL AND replay_id IS NOT NULL"),
    "replay_unfinished": ("replay", ["id"], "completed_at IS NULL"),
    "delivery_open": ("delivery", ["webhook_id", "id"], "completed_at IS NULL"),
    "delivery_dead": ("delivery", ["webhook_id", "id"], "dead_at IS NOT NULL"),
    "delivery_dead_of_organization": ("delivery", ["organization_id", "id"], "dead_at IS NOT NULL"),
    "delivery_trouble": ("delivery", ["webhook_id", "id"], _TROUBLE),
    "delivery_trouble_of_organization": ("delivery", ["organization_id", "id"], _TROUBLE),
    "delivery_rollup_age": ("delivery_rollup", ["resolution_ms", "start"], None),
    "idempotency_age": ("idempotency", ["created_at"], None),
}
TABLES = {
    "api_key", "attempt", "delivery", "delivery_rollup", "delivery_tally", "event", "event_type", "idempotency",
    "organization", "webhook", "webhook_gate", "webhook_health",
}  # fmt: skip


async def test_a_fresh_database_gets_its_tables_and_partial_indexes(blank_database_url: str) -> None:
    await migrate(blank_database_url)
    await migrate(blank_database_url)  # again does nothing
    async with connect(blank_database_url) as ledger:
        await ledger.ping()
        if is_sqlite(blank_database_url):
            rows = await select("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type = 'index'")
            tables = await select("SELECT name FROM sqlite_master WHERE type = 'table'")
        else:
            rows = await select("SELECT indexname AS name, indexdef AS sql FROM pg_indexes WHERE schemaname = 'public'")
            tables = await select("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    assert {row["name"] for row in tables} >= TABLES
    definitions = {row["name"]: " ".join(row["sql"].replace('"', "").split()) for row in rows}
    for name, (table, columns, condition) in INDEXES.items():
        definition = definitions[name]
        assert f" {table} " in definition.replace(f"public.{table}", table)
        assert f"({', '.join(columns)})" in definition
        assert definition.replace("(", "").replace(")", "").endswith(condition or ", ".join(columns))


@asynccontextmanager
async def declared() -> AsyncIterator[Apps]:
    """The models as they are declared, without a database."""
    context = await Tortoise.init(config=MIGRATIONS)
    assert context.apps is not None
    yield context.apps
    await Tortoise.close_connections()


async def test_the_models_agree_with_the_migrations() -> None:
    """As `makemigrations` would say it: no changes detected."""
    async with declared() as apps:
        writers = await MigrationAutodetector(apps, MIGRATIONS["apps"]).changes()
    assert [operation for writer in writers for operation in writer.operations] == []


async def test_a_column_that_no_migration_knows_would_be_noticed() -> None:
    async with declared() as apps:
        model = apps["hookline"]["Delivery"]
        model._meta.fields_map["due_at"].null = False
        try:
            writers = await MigrationAutodetector(apps, MIGRATIONS["apps"]).changes()
        finally:
            model._meta.fields_map["due_at"].null = True
    assert len([operation for writer in writers for operation in writer.operations]) == 1


async def test_several_processes_may_migrate_at_once(blank_database_url: str) -> None:
    program = f"import asyncio; from models.database import migrate; asyncio.run(migrate({blank_database_url!r}))"
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
        for _ in range(3)
    ]
    for process in started:
        _, complaint = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, complaint) == (0, b"")
    async with connect(blank_database_url) as ledger:
        assert await ledger.lanes() == []


async def test_a_migrated_database_keeps_its_rows(database_url: str) -> None:
    async with connect(database_url) as ledger:
        bench = await Bench(ledger).open()
        [delivery_id] = await bench.publish(await bench.webhook())
    await migrate(database_url)
    async with connect(database_url):
        assert (await Delivery.get(id=delivery_id)).status is DeliveryStatus.PENDING


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_claim_goes_by_the_index_of_what_is_due(bench: Bench) -> None:
    """What is past stays out of the way: the tables grow, the index of what waits does not."""
    sql = "SELECT id FROM delivery WHERE webhook_id = $1 AND due_at <= 5 AND replay_id IS NULL ORDER BY due_at LIMIT 10"
    plan = await select(f"EXPLAIN QUERY PLAN {sql}", new_id())
    assert ["delivery_due" in row["detail"] for row in plan] == [True]


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_no_index_of_deliveries_holds_what_a_claim_writes_so_that_it_may_update_in_place(bench: Bench) -> None:
    """PostgreSQL knows each index's columns, those of its condition among them, and updates rows in place (HOT) only
    when none of them changes."""
    held = await select(
        "SELECT DISTINCT a.attname AS name FROM pg_depend d "
        "JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid "
        "WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass "
        "AND d.refobjid = 'delivery'::regclass "
        "AND d.objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'delivery'::regclass)"
    )
    names = {row["name"] for row in held}
    assert names >= {"id", "webhook_id", "due_at", "completed_at", "dead_at"}
    assert names & {"status", "attempt_count", "fence", "lease_until"} == set()


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize("name", ["_CLAIM_PLAIN", "_CLAIM", "_CLAIM_REPLAYED", "_SETTLE"])
async def test_a_plan_that_is_made_while_there_are_no_deliveries_does_for_millions(ledger: Ledger, name: str) -> None:
    """PostgreSQL keeps it: one that read the whole table would go on to do so."""
    sql: str = getattr(ledger_postgres, name)
    count = max(map(int, re.findall(r"\$(\d+)", sql)))
    async with get_connection("default").acquire_connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE hot AS {sql}")
        rows = await connection.fetch(f"EXPLAIN EXECUTE hot({', '.join(['NULL'] * count)})")
    plan = "\n".join(row[0] for row in rows)
    assert re.search(r"Index Scan using \w+ on delivery d .*\n +Index Cond: .*\bid = \w+\.id\b", plan)
    assert "Seq Scan" not in plan


async def test_what_was_given_up_before_dead_letters_had_an_index_of_their_own_is_found_by_it(
    blank_database_url: str,
) -> None:
    await run_migrations(config=config(blank_database_url, foreign_keys=False), target="hookline.0011_replays")
    old = {status: new_id() for status in DeliveryStatus}
    for status, delivery_id in old.items():
        await select(
            "INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, status, trigger, "
            "attempt_count, failure_count, fence, created_at, completed_at) "
            f"VALUES ($1, $1, $1, $1, 'order.paid', {int(status)}, 1, 0, 0, 0, 5, 7)",
            delivery_id,
        )
    await Tortoise.close_connections()
    await migrate(blank_database_url)
    async with connect(blank_database_url):
        rows = {row.status: row.dead_at for row in await Delivery.filter(id__in=list(old.values()))}
    assert rows == {**dict.fromkeys(DeliveryStatus), DeliveryStatus.DEAD_LETTERED: from_ms(7)}


async def test_what_had_ended_before_there_was_a_tally_is_in_it(blank_database_url: str) -> None:
    await run_migrations(config=config(blank_database_url, foreign_keys=False), target="hookline.0013_ended_sessions")
    webhook_id = new_id()
    for number, status in enumerate(one for one in DeliveryStatus for _ in range(one)):
        await select(
            "INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, status, trigger, "
            "attempt_count, failure_count, fence, created_at, completed_at) "
            f"VALUES ($1, $1, $2, $1, 'order.paid', {int(status)}, 1, 0, 0, 0, {number}, $3)",
            new_id(),
            webhook_id,
            None if status in OPEN else 7,
        )
    await Tortoise.close_connections()
    await migrate(blank_database_url)
    async with connect(blank_database_url):
        rows = await select("SELECT * FROM delivery_tally")
    assert {(str(row["webhook_id"]), row["status"]): row["ended"] for row in rows} == {
        (str(webhook_id), status): int(status) for status in DeliveryStatus if status not in OPEN
    }


@pytest.mark.parametrize("url", ["mysql://localhost/x", "file.db", "", "http://localhost"])
def test_no_other_database_is_taken(url: str) -> None:
    with pytest.raises(ValueError, match=r"must begin with postgres:// or sqlite://"):
        config(url)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (asyncpg.InterfaceError("the pool is closing"), True),
        (asyncpg.exceptions.AdminShutdownError(), True),
        (asyncpg.exceptions.CannotConnectNowError(), True),
        (asyncpg.exceptions.ConnectionDoesNotExistError(), True),
        (asyncpg.exceptions.DeadlockDetectedError(), True),
        (asyncpg.exceptions.SerializationError(), True),
        (asyncpg.exceptions.TooManyConnectionsError(), True),
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.OperationalError("no such table: delivery"), False),
        (asyncpg.exceptions.UndefinedTableError("no"), False),
        (asyncpg.exceptions.UniqueViolationError("no"), False),
        (ValueError("a bug"), False),
        (KeyError("a bug"), False),
    ],
)
def test_which_errors_may_pass_by_themselves(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient
