"""A running Hookline for each test of this room."""

from collections.abc import AsyncIterator

import pytest

from tests.schema.door import Door, Tenant, opened


@pytest.fixture
def database_kind() -> str:
    """SQLite, unless a test asks for both: what differs between databases is below the schema, and tested there."""
    return "sqlite"


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Door]:
    async with opened(database_url) as door:
        yield door


@pytest.fixture
async def acme(door: Door) -> Tenant:
    """An organization with a key of scope `*`."""
    return await door.tenant("Acme")
