"""What the tests of every room stand on: databases and servers, real ones."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from models.database import connect, migrate
from models.ledger import Ledger
from tests.made_up import MANY, SOME, Amount
from tests.services import PostgreSQL, Redis, postgresql_server, redis_server

# What the developer's shell says about a Hookline of theirs is not for the tests.
for name in [name for name in os.environ if name.startswith("HOOKLINE_") and name != "HOOKLINE_REQUIRE_SERVICES"]:
    del os.environ[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--made-up",
        choices=("some", "many"),
        default="some",
        help="how many requests schemathesis makes up: 600, or 8,000",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture
def how_many(pytestconfig: pytest.Config) -> Amount:
    """How many requests are to be made up."""
    return MANY if pytestconfig.getoption("--made-up") == "many" else SOME


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """The test run's own PostgreSQL. Skips where it is not installed."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def _redis() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def redis(_redis: Redis) -> Redis:
    """The test run's own Redis, emptied for this test. Skips where it is not installed."""
    await _redis.command("FLUSHALL")
    return _redis


@pytest.fixture
def redis_url(redis: Redis) -> str:
    """An empty database of a real Redis."""
    return redis.url


@pytest.fixture(scope="session")
async def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    await migrate(f"sqlite://{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Which database the test runs on: it runs once on each."""
    kind: str = request.param
    return kind


@pytest.fixture
async def database_url(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path, _migrated_sqlite: Path
) -> AsyncIterator[str]:
    """A database of the test's own, migrated and empty: once on SQLite, once on PostgreSQL."""
    if database_kind == "sqlite":
        yield f"sqlite://{shutil.copy(_migrated_sqlite, tmp_path / 'hookline.db')}"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = await server.create_migrated_database()
    yield url
    await server.drop_database(url)


@pytest.fixture
async def blank_database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database of the test's own in which nothing is yet, not even a table."""
    if database_kind == "sqlite":
        yield f"sqlite://{tmp_path / 'blank.db'}"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = await server.create_database()
    yield url
    await server.drop_database(url)


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    """This process's connection to `database_url`: models can be used, and here is the ledger."""
    async with connect(database_url) as ledger:
        yield ledger
