"""What the tests of the resolvers share: a house at a standing clock, and somebody who calls."""

from collections.abc import AsyncIterator

import pytest

from app.wiring import House
from resolvers.caller import Caller
from tests.houses import ManualClock, new_caller, open_house


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def house(database_url: str, clock: ManualClock) -> AsyncIterator[House]:
    """A strict house, on each database: https and public addresses alone."""
    async with open_house(database_url, clock, allow_http=False, allowed_networks=()) as house:
        yield house


@pytest.fixture
async def lenient(database_url: str, clock: ManualClock) -> AsyncIterator[House]:
    """A house that may reach the receivers of the tests."""
    async with open_house(database_url, clock) as house:
        yield house


@pytest.fixture
async def caller(house: House) -> Caller:
    """A key for everything, of an organization of its own."""
    return await new_caller(house.desk)
