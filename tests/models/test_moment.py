"""Moments: datetimes in Python, milliseconds in the database."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from models.ids import new_id
from models.ledger import Ledger
from models.moment import from_ms, rfc_3339, to_ms
from models.organization import Organization


@pytest.mark.parametrize(
    ("moment", "ms"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), -1),  # rounds down
        (datetime(2026, 11, 21, 8, 15, 30, 250_999, UTC), 1_795_248_930_250),
        (datetime(2026, 11, 21, 10, 15, 30, 250_000, timezone(timedelta(hours=2))), 1_795_248_930_250),
    ],
)
def test_a_moment_is_milliseconds_since_1970_rounded_down(moment: datetime, ms: int) -> None:
    assert to_ms(moment) == ms
    assert from_ms(ms) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert from_ms(ms).tzinfo is UTC


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 21, 8, 15, 30, 250_999, UTC), "2026-11-21T08:15:30.250Z"),
        (datetime(2026, 11, 21, 8, 15, 30, tzinfo=UTC), "2026-11-21T08:15:30.000Z"),
        (datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2))), "2025-12-31T23:30:00.000Z"),
    ],
)
def test_a_moment_is_written_in_utc_to_the_millisecond(moment: datetime, text: str) -> None:
    assert rfc_3339(moment) == text


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        to_ms(datetime(2026, 11, 21))  # noqa: DTZ001


async def test_a_column_keeps_a_moment_compares_it_and_gives_it_back(ledger: Ledger) -> None:
    moment = datetime(2026, 11, 21, 8, 15, 30, 250_999, UTC)
    kept = moment.replace(microsecond=250_000)
    organization = await Organization.create(id=new_id(), name="Acme", created_at=moment)

    found = await Organization.get(id=organization.id)

    assert (found.created_at, found.deleted_at) == (kept, None)
    assert await Organization.filter(created_at=kept).exists()
    assert await Organization.filter(created_at__lt=kept + timedelta(milliseconds=1)).exists()
    assert not await Organization.filter(created_at__lt=kept).exists()
    assert await Organization.all().values_list("created_at", flat=True) == [kept]
