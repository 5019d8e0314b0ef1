"""What the tests of the models share."""

import pytest

from models.ledger import Ledger
from tests.models.bench import Bench


@pytest.fixture
async def bench(ledger: Ledger) -> Bench:
    """An organization on each database, at a standing clock."""
    return await Bench(ledger).open()
