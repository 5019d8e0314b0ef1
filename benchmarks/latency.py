"""Benchmark 4: how long after its publish was answered an event arrives."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import orjson

from benchmarks.end_to_end import WEBHOOKS, create_webhooks, through
from benchmarks.events import batches, event_of
from benchmarks.load import by_the_clock, quantile
from benchmarks.machine import Ticks, fsync_milliseconds
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Running, Stand, settled

_RATE = 200.0
_BATCH = 10
_SLICE_S = 5.0
_CALM_PERCENT = 1.0
_WITHIN_S = 120


@dataclass(frozen=True, slots=True)
class Slice:
    """A few seconds of a load. Nothing was in flight when they began."""

    rate: float
    """Events a second."""
    late_ms: Sequence[float]
    """Of each event, from its publish's answer to its arrival."""
    publish_ms: Sequence[float]
    spent: Ticks

    @property
    def is_calm(self) -> bool:
        """Whether the machine had nearly all of its processor."""
        return self.spent.stolen_percent <= _CALM_PERCENT


async def latency(stand: Stand, scale: Scale) -> Result:
    """Benchmark 4."""
    rows, whole, details, syncs = [], [], [], []
    async with stand.running() as running:
        await create_webhooks(running, stand, WEBHOOKS)

        async def half_of_the_peak() -> float:
            return float((await through(running, stand, scale.events // 8))["delivered/s"]) / 2

        for rate, batch, what in ((_steady(_RATE), 1, ""), (half_of_the_peak, _BATCH, " (half of the peak)")):
            median, slowest = await fsync_milliseconds(stand.folder, scale.seconds / 3)
            slices = await _slices(running, stand, rate, batch, scale)
            load = _load(slices) + what
            whole.append(row_of(load, slices))
            rows += [whole[-1], calm_row_of(load, slices)]
            syncs.append(f"{median:.1f} and {slowest:.1f} ms before {load}")
            details.append({
                "load": load,
                "fsync p50 ms": round(median, 2),
                "fsync p99 ms": round(slowest, 2),
                "slices": [{"events/s": round(one.rate), **_figures(one)} for one in slices],
            })  # fmt: skip
    return Result(
        "Latency",
        f"Publishes arrive by the clock, {_RATE:.0f} single events/s and then half of the peak, {_BATCH} a request; "
        "the peak is what was delivered just before each slice. "
        "Measured from the answer to the publish until the receiver has read the request; an event that arrives before "
        f"its answer counts as 0. Each load comes in slices of {_SLICE_S:.0f} s with nothing in flight between them. "
        f"The disk took, to write 8 KiB with fdatasync (p50 and p99), {', '.join(syncs)}.",
        rows,
        [(f"{row['load']}: p99 at most 50 ms: {row['p99 ms']}", row["p99 ms"] <= 50) for row in whole],
        {"rows": rows, "loads": details},
    )


async def at(running: Running, stand: Stand, rate: float, batch: int, scale: Scale) -> Row:
    """The latency at so many events a second. WEBHOOKS webhooks are there."""
    slices = await _slices(running, stand, _steady(rate), batch, scale)
    return row_of(_load(slices), slices)


def row_of(load: str, slices: Sequence[Slice]) -> Row:
    """What was found in all these slices together; without any, a row without figures."""
    return {"load": load, **_figures(*slices)}


def calm_row_of(load: str, slices: Sequence[Slice]) -> Row:
    """The same for those slices only in which the machine had its processor, and how many of all they are."""
    calm = [one for one in slices if one.is_calm]
    what = f"{load}, slices with at most {_CALM_PERCENT:.0f} % stolen"
    return row_of(f"{what} ({len(calm)} of {len(slices)})", calm)


def _figures(*slices: Slice) -> Row:
    late = [ms for one in slices for ms in one.late_ms]
    publish = [ms for one in slices for ms in one.publish_ms]
    figures = {
        "p50 ms": quantile(late, 0.5),
        "p99 ms": quantile(late, 0.99),
        "longest ms": max(late, default=0.0),
        "publish p50 ms": quantile(publish, 0.5),
        "publish p99 ms": quantile(publish, 0.99),
        "stolen %": sum((one.spent for one in slices), Ticks()).stolen_percent,
    }
    return {name: round(figure, 1) if slices else "" for name, figure in figures.items()}


def _steady(rate: float) -> Callable[[], Awaitable[float]]:
    async def steady() -> float:
        return rate

    return steady


async def _slices(
    running: Running, stand: Stand, rate: Callable[[], Awaitable[float]], batch: int, scale: Scale
) -> list[Slice]:
    """`rate` is asked before each."""
    count = max(1, round(scale.seconds / _SLICE_S))
    return [await _slice(running, stand, await rate(), batch, scale.seconds / count) for _ in range(count)]


async def _slice(running: Running, stand: Stand, rate: float, batch: int, seconds: float) -> Slice:
    await settled(running)
    await stand.receiver.forget()
    count = round(rate * seconds)
    events = [event_of(number, lane=number % WEBHOOKS) for number in range(count)]
    lists = events if batch == 1 else batches(count, batch, WEBHOOKS)
    requests = [running.publication(one) for one in lists]
    before = Ticks.now()
    answered = await by_the_clock(running.client, requests, rate / batch)
    published = [
        (event["id"], at)
        for body, at in zip(answered.bodies, answered.at, strict=True)
        for event in _events_in(orjson.loads(body))
    ]
    await stand.receiver.wait_for(len(published), _WITHIN_S)
    spent = Ticks.now() - before
    arrivals = await stand.receiver.arrivals()
    late = [max(0, arrivals[event_id] - at) / 1e6 for event_id, at in published]
    return Slice(rate, late, [took / 1e6 for took in answered.took], spent)


def _load(slices: Sequence[Slice]) -> str:
    least, most = min(one.rate for one in slices), max(one.rate for one in slices)
    return f"{most:,.0f} events/s" if least == most else f"{least:,.0f} to {most:,.0f} events/s"


def _events_in(answer: dict[str, object]) -> list[dict[str, str]]:
    data = answer.get("data")
    return data if isinstance(data, list) else [answer]  # type: ignore[list-item]
