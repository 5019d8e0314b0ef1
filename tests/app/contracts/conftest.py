"""The contracts are tried on SQLite; what differs between databases is the resolvers' and is tested there."""

from collections.abc import AsyncIterator

import pytest

from tests.app.contracts.client import lenient
from tests.app.rest_client import Rest, rest


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Rest]:
    """As strict as `hookline serve`; delivers nothing."""
    async with rest(database_url) as made:
        yield made


@pytest.fixture
async def delivering(database_url: str) -> AsyncIterator[Rest]:
    """Delivers, also to loopback receivers by plain http."""
    async with lenient(database_url) as made:
        yield made
