"""When to try again, to the millisecond."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.attempt import AttemptOutcome
from workers.retry_policy import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_SCHEDULE_SECONDS,
    RetryPolicy,
    is_gone,
    retry_after_ms,
)

NOW = 1_795_219_200_250  # 2026-11-21T00:00:00.250Z
DAY_MS = 86_400_000
ALMOST_ONE = 1 - 2**-53
DEFAULT = RetryPolicy()
QUICK = RetryPolicy((10,), 3)
INSTANT = RetryPolicy((), 5)
TWO = RetryPolicy((1, 60), 25)


def on(day: int, clock: str, zone: str = "GMT") -> str:
    return f"Sat, {day} Nov 2026 {clock} {zone}"


def test_the_default_schedule_is_ten_attempts_over_75_hours_and_35_minutes() -> None:
    assert DEFAULT_MAX_ATTEMPTS == 10
    assert timedelta(seconds=sum(DEFAULT_SCHEDULE_SECONDS)) == timedelta(hours=75, minutes=35, seconds=5)


@pytest.mark.parametrize(
    ("policy", "failures", "chance", "status", "retry_after", "after_ms"),
    [
        # the schedule, without and with the longest jitter
        (DEFAULT, 1, 0, 500, None, 5_000),
        (DEFAULT, 1, ALMOST_ONE, 500, None, 5_500),
        (DEFAULT, 2, 0, 500, None, 300_000),
        (DEFAULT, 2, ALMOST_ONE, 500, None, 330_000),
        (DEFAULT, 3, 0, 500, None, 1_800_000),
        (DEFAULT, 4, 0, 500, None, 7_200_000),
        (DEFAULT, 5, 0, 500, None, 18_000_000),
        (DEFAULT, 6, 0, 500, None, 36_000_000),
        (DEFAULT, 7, 0, 500, None, 50_400_000),
        (DEFAULT, 8, 0, 500, None, 72_000_000),
        (DEFAULT, 9, 0, 500, None, 86_400_000),
        (DEFAULT, 9, ALMOST_ONE, 500, None, 95_040_000),
        (DEFAULT, 9, 0.5, 500, None, 90_720_000),
        (DEFAULT, 10, 0, 500, None, None),
        (DEFAULT, 11, 0, 500, None, None),
        # whatever went wrong
        (DEFAULT, 1, 0, None, None, 5_000),
        (DEFAULT, 1, 0, 302, None, 5_000),
        (DEFAULT, 1, 0, 400, None, 5_000),
        (DEFAULT, 1, 0, 401, None, 5_000),
        (DEFAULT, 1, 0, 404, None, 5_000),
        (DEFAULT, 1, 0, 429, None, 5_000),
        (DEFAULT, 1, 0, 503, None, 5_000),
        (DEFAULT, 1, 0, 410, None, None),
        (DEFAULT, 1, 0, 410, "60", None),
        # other schedules: the last delay is repeated; none means at once
        (QUICK, 1, 0, 500, None, 10_000),
        (QUICK, 2, 0, 500, None, 10_000),
        (QUICK, 3, 0, 500, None, None),
        (TWO, 1, 0, 500, None, 1_000),
        (TWO, 2, 0, 500, None, 60_000),
        (TWO, 24, 0, 500, None, 60_000),
        (TWO, 25, 0, 500, None, None),
        (INSTANT, 1, ALMOST_ONE, 500, None, 0),
        (INSTANT, 4, 0, 500, "7", 7_000),
        (RetryPolicy((5,), 1), 1, 0, 500, None, None),
        # Retry-After in seconds: puts off, never brings forward, by a day at most
        (DEFAULT, 1, 0, 503, "120", 120_000),
        (DEFAULT, 1, ALMOST_ONE, 503, "120", 120_000),
        (DEFAULT, 1, 0, 500, " 120 ", 120_000),
        (DEFAULT, 1, 0, 302, "120", 120_000),
        (DEFAULT, 1, 0, 429, "0", 5_000),
        (DEFAULT, 1, ALMOST_ONE, 429, "5", 5_500),
        (DEFAULT, 1, 0, 429, "6", 6_000),
        (DEFAULT, 2, 0, 429, "120", 300_000),
        (DEFAULT, 1, 0, 429, "86400", DAY_MS),
        (DEFAULT, 1, 0, 429, "86401", DAY_MS),
        (DEFAULT, 1, 0, 429, "9" * 500, DAY_MS),
        (DEFAULT, 1, 0, 429, "0" * 20 + "60", 60_000),
        (DEFAULT, 9, ALMOST_ONE, 429, "86400", 95_040_000),
        (DEFAULT, 10, 0, 429, "60", None),
        # Retry-After as a date
        (DEFAULT, 1, 0, 503, on(21, "00:02:00"), 119_750),
        (DEFAULT, 1, 0, 503, on(21, "00:00:00"), 5_000),  # the past
        (DEFAULT, 1, 0, 503, on(21, "00:02:00", "-0000"), 119_750),
        (DEFAULT, 1, 0, 503, on(21, "02:02:00", "+0200"), 119_750),
        (DEFAULT, 1, 0, 503, on(23, "00:00:00"), DAY_MS),
        (DEFAULT, 1, 0, 503, "Saturday, 21-Nov-26 00:02:00 GMT", 119_750),  # RFC 850
        (DEFAULT, 1, 0, 503, "Sat Nov 21 00:02:00 2026", 119_750),  # asctime
        # Retry-After that makes no sense
        (DEFAULT, 1, 0, 503, "", 5_000),
        (DEFAULT, 1, 0, 503, "soon", 5_000),
        (DEFAULT, 1, 0, 503, "-60", 5_000),
        (DEFAULT, 1, 0, 503, "60.5", 5_000),
        (DEFAULT, 1, 0, 503, "60s", 5_000),
        (DEFAULT, 1, 0, 503, "1e3", 5_000),
        (DEFAULT, 1, 0, 503, "٦٠", 5_000),  # digits, but not of ASCII
        (DEFAULT, 1, 0, 503, "Sat, 99 Nov 2026 00:00:00 GMT", 5_000),
        (DEFAULT, 1, 0, 503, "Sat, 21 Nov 99999 00:00:00 GMT", 5_000),
        (DEFAULT, 1, 0, None, "120", 5_000),  # there was no answer to read it from
    ],
)
def test_when_to_try_again(
    policy: RetryPolicy, failures: int, chance: float, status: int | None, retry_after: str | None, after_ms: int | None
) -> None:
    due_at = policy.next_due_at(
        failures=failures, now=NOW, chance=lambda: chance, status=status, retry_after=retry_after
    )
    assert due_at == (None if after_ms is None else NOW + after_ms)


schedules = st.lists(st.integers(0, 7 * 86_400), max_size=24).map(tuple)
policies = st.builds(RetryPolicy, schedules, st.integers(1, 25))
headers = (
    st.none()
    | st.text(max_size=40)
    | st.integers(-10, 10**12).map(str)
    | st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)).map(lambda d: format_datetime(d.replace(tzinfo=UTC)))  # noqa: DTZ001
)


@given(policies, st.integers(1, 30), st.floats(0, 1, exclude_max=True), st.integers(200, 599), headers)
def test_never_before_the_schedule_never_a_day_after_it_and_never_too_often(
    policy: RetryPolicy, failures: int, chance: float, status: int, retry_after: str | None
) -> None:
    due_at = policy.next_due_at(
        failures=failures, now=NOW, chance=lambda: chance, status=status, retry_after=retry_after
    )
    assert (due_at is None) == (failures >= policy.max_attempts or status == 410)
    if due_at is not None:
        schedule = policy.schedule_seconds or (0,)
        delay_ms = 1000 * (schedule[failures - 1] if failures <= len(schedule) else schedule[-1])
        assert NOW + delay_ms <= due_at <= NOW + max(delay_ms * 1.1 + 1, DAY_MS)


@given(policies, st.floats(0, 1, exclude_max=True))
def test_a_receiver_that_always_fails_is_tried_exactly_as_often_as_the_policy_says(
    policy: RetryPolicy, chance: float
) -> None:
    attempts = failures = 1
    while policy.next_due_at(failures=failures, now=NOW, chance=lambda: chance, status=500) is not None:
        attempts += 1
        failures += 1
    assert attempts == policy.max_attempts


@given(st.text())
def test_no_header_makes_reading_it_fail(header: str) -> None:
    assert 0 <= retry_after_ms(header, NOW) <= DAY_MS


def test_only_an_answer_of_410_says_that_the_receiver_is_gone() -> None:
    gone = {(o, s) for o in AttemptOutcome for s in (None, 200, 404, 410) if is_gone(o, s)}
    assert gone == {(AttemptOutcome.HTTP_ERROR, 410)}
