"""A short round of `make chaos`, so that no change can lose what many rounds have shown to be kept."""

from benchmarks.chaos import Terms, round_of
from benchmarks.stand import standing


async def test_nothing_is_lost_when_all_that_hookline_stands_on_breaks_under_load() -> None:
    async with standing() as stand:
        report = await round_of(stand, Terms(seed=5, seconds=10, rate=100, redis_seconds=5, timeout_seconds=2))
    assert report.violations == [], "\n".join(report.logs)
    assert report.published == 1000
    assert report.received - report.repeated == 2000
