"""What the benchmarks make of what they measured. The figures themselves are not asserted."""

import os
from pathlib import Path

from benchmarks.latency import Slice, calm_row_of, row_of
from benchmarks.machine import Ticks, fsync_milliseconds

_STAT = "cpu  100 10 50 700 20 5 15 100 40 4\ncpu0 60 5 25 350 10 3 7 80 20 2\nintr 61474240 0\n"


def test_stolen_time_is_a_share_of_all_cores_and_guests_are_not_counted_twice() -> None:
    assert Ticks.told_by(_STAT) == Ticks(all=1000, stolen=100)


def test_a_system_that_does_not_tell_of_stolen_time_has_none() -> None:
    assert Ticks.told_by("cpu  100 10 50 700 20 5 15\n") == Ticks(all=900, stolen=0)
    assert Ticks.told_by("intr 1 2 3 4 5 6 7 8\n") == Ticks()
    assert Ticks.told_by("") == Ticks()
    assert Ticks().stolen_percent == 0.0


def test_the_stolen_share_is_that_between_two_moments() -> None:
    assert (Ticks(1400, 150) - Ticks(1000, 100)).stolen_percent == 12.5


async def test_the_disk_is_asked_and_left_as_it_was(tmp_path: Path) -> None:
    median, slowest = await fsync_milliseconds(tmp_path, 0.03)
    assert 0 < median <= slowest
    assert os.listdir(tmp_path) == []


def test_the_row_of_a_load_is_of_all_its_slices() -> None:
    assert row_of("200 events/s", [_CALM, _ROBBED, _HARDLY_CALM]) == {
        "load": "200 events/s",
        "p50 ms": 4.0,
        "p99 ms": 90.0,
        "longest ms": 90.0,
        "publish p50 ms": 3.0,
        "publish p99 ms": 30.0,
        "stolen %": 13.7,
    }


def test_the_row_of_calm_slices_tells_how_many_of_all_they_are() -> None:
    assert calm_row_of("200 events/s", [_CALM, _ROBBED, _HARDLY_CALM]) == {
        "load": "200 events/s, slices with at most 1 % stolen (2 of 3)",
        "p50 ms": 3.0,
        "p99 ms": 6.0,
        "longest ms": 6.0,
        "publish p50 ms": 2.0,
        "publish p99 ms": 3.0,
        "stolen %": 0.5,
    }


def test_where_no_slice_was_calm_the_row_has_no_figures() -> None:
    row = calm_row_of("200 events/s", [_ROBBED])
    assert row.pop("load") == "200 events/s, slices with at most 1 % stolen (0 of 1)"
    assert list(row) == list(row_of("", [_CALM]))[1:]
    assert set(row.values()) == {""}


_CALM = Slice(rate=200.0, late_ms=[1.0, 3.0], publish_ms=[1.0], spent=Ticks(1000, 0))
_HARDLY_CALM = Slice(rate=200.0, late_ms=[2.0, 6.0], publish_ms=[3.0, 2.0], spent=Ticks(1000, 10))
_ROBBED = Slice(rate=200.0, late_ms=[4.0, 90.0], publish_ms=[30.0], spent=Ticks(1000, 400))
