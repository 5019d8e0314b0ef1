"""A running Hookline for each story."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.journeys.product import Installation, Process, Product, dev, install, production
from tests.services import PostgreSQL, Redis, redis_server

Installs = Callable[[PostgreSQL], Awaitable[Installation]]
StartsProduction = Callable[..., AbstractAsyncContextManager[Product]]


@pytest.fixture(scope="session")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Installs:
    """Prepares a production once, and only where a story asks for one."""
    made: list[Installation] = []

    async def installed(postgresql: PostgreSQL) -> Installation:
        if not made:
            made.append(await install(tmp_path_factory.mktemp("installation"), postgresql))
        return made[0]

    return installed


@pytest.fixture(scope="session", params=["dev", "production"])
async def _product(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _installed: Installs
) -> AsyncIterator[Product]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "dev":
        async with dev(folder) as product:
            yield product
        return
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    redis: Redis = request.getfixturevalue("_redis")
    async with production(folder, postgresql, redis, await _installed(postgresql)) as product:
        yield product


@pytest.fixture
def product(_product: Product) -> Iterator[Product]:
    """Hookline in one process, and again on PostgreSQL and Redis. Shared: a story tells its own by its event types."""
    told = {process: len(process.output) for process in _product.processes}
    yield _product
    _tell(_product, told)


@pytest.fixture
async def dev_product(tmp_path: Path) -> AsyncIterator[Product]:
    """Hookline in one process, for this story alone: it may be stopped."""
    async with dev(tmp_path) as product:
        yield product
        _tell(product)


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A Redis for this story alone: it may be emptied and stopped."""
    with redis_server() as redis:
        yield redis


@pytest.fixture
async def start_production(
    tmp_path: Path, postgresql: PostgreSQL, own_redis: Redis, _installed: Installs
) -> StartsProduction:
    """Starts Hookline on PostgreSQL and Redis, for this story alone: what runs may be killed."""
    return partial(production, tmp_path, postgresql, own_redis, await _installed(postgresql))


@pytest.fixture
async def production_product(start_production: StartsProduction) -> AsyncIterator[Product]:
    """One server, one worker."""
    async with start_production() as product:
        yield product
        _tell(product)


def _tell(product: Product, told: Mapping[Process, int] = MappingProxyType({})) -> None:
    """Leaves what the processes printed where pytest shows it, should the story fail; `told`: how much it knows."""
    for process in product.processes:
        sys.stdout.write(f"── {' '.join(process.command)}\n{process.output[told.get(process, 0) :]}\n")
