"""Benchmark 4: how long after its publish was answered an event arrives."""

import orjson

from benchmarks.end_to_end import WEBHOOKS, create_webhooks, through
from benchmarks.events import batches, event_of
from benchmarks.load import by_the_clock, quantile
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Running, Stand

_RATE = 200.0
_BATCH = 10
_WITHIN_S = 120


async def latency(stand: Stand, scale: Scale) -> Result:
    """Benchmark 4."""
    async with stand.running() as running:
        await create_webhooks(running, stand, WEBHOOKS)
        peak = (await through(running, stand, scale.events // 4))["delivered/s"]
        rows = [await at(running, stand, _RATE, 1, scale), await at(running, stand, peak / 2, _BATCH, scale)]
    rows[1]["load"] += " (half of the peak)"
    return Result(
        "Latency",
        f"Publishes arrive by the clock, {_RATE:.0f} single events/s and then half of the peak, {_BATCH} a request. "
        "Measured from the answer to the publish until the receiver has read the request; an event that arrives before "
        "its answer counts as 0.",
        rows,
        [(f"{row['load']}: p99 at most 50 ms: {row['p99 ms']}", row["p99 ms"] <= 50) for row in rows],
        {"rows": rows},
    )


async def at(running: Running, stand: Stand, rate: float, batch: int, scale: Scale) -> Row:
    """The latency at so many events a second. WEBHOOKS webhooks are there."""
    await stand.receiver.forget()
    count = round(rate * scale.seconds)
    events = [event_of(number, lane=number % WEBHOOKS) for number in range(count)]
    lists = events if batch == 1 else batches(count, batch, WEBHOOKS)
    answered = await by_the_clock(running.client, [running.publication(one) for one in lists], rate / batch)
    published = [
        (event["id"], at)
        for body, at in zip(answered.bodies, answered.at, strict=True)
        for event in _events_in(orjson.loads(body))
    ]
    await stand.receiver.wait_for(len(published), _WITHIN_S)
    arrivals = await stand.receiver.arrivals()
    took = [max(0, arrivals[event_id] - at) / 1e6 for event_id, at in published]
    return {
        "load": f"{rate:,.0f} events/s",
        "p50 ms": round(quantile(took, 0.5), 1),
        "p99 ms": round(quantile(took, 0.99), 1),
        "longest ms": round(max(took), 1),
        "publish p50 ms": round(answered.milliseconds(0.5), 1),
        "publish p99 ms": round(answered.milliseconds(0.99), 1),
    }


def _events_in(answer: dict[str, object]) -> list[dict[str, str]]:
    data = answer.get("data")
    return data if isinstance(data, list) else [answer]  # type: ignore[list-item]
