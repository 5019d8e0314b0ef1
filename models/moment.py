"""Moments are stored as milliseconds since 1970 in a BIGINT: the same index and comparison on every database."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from tortoise import fields
from tortoise.models import Model

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def now_ms() -> int:
    """Milliseconds since 1970, by the system's clock."""
    return time.time_ns() // 1_000_000


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970; rounds down. The moment must carry a time zone."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(ms: int) -> datetime:
    """The moment in UTC, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=ms)


@lru_cache(maxsize=1024)  # the events of one publish share their moments
def rfc_3339(moment: datetime) -> str:
    """`2026-11-21T08:15:30.250Z`: RFC 3339 in UTC, rounded down to the millisecond. The moment carries a time zone."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class MomentField(fields.BigIntField):
    """A timezone-aware `datetime` in Python, milliseconds since 1970 in the database."""

    field_type = datetime

    def to_db_value(self, value: Any, instance: type[Model] | Model) -> int | None:
        return to_ms(value) if isinstance(value, datetime) else value

    def to_python_value(self, value: Any) -> datetime | None:
        return from_ms(value) if isinstance(value, int) else value
