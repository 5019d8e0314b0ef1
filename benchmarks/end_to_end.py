"""Benchmarks 1, 2 and 7: events published in batches and delivered, beside the bare minimum on the same parts."""

import sys
import time

import orjson

from benchmarks.events import TYPE, batches
from benchmarks.load import by_hands
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Meter, Running, Stand, settled

WEBHOOKS = 10
_BATCH, _HANDS = 100, 4
_WITHIN_S = 600


async def end_to_end(stand: Stand, scale: Scale) -> Result:
    """Benchmarks 1 and 2."""
    ceiling = await _ceiling(stand, scale.events)
    async with stand.running() as running:
        await create_webhooks(running, stand, WEBHOOKS)
        whole = await through(running, stand, scale.events)
    costliest = whole.pop("costliest")
    ratio = whole["delivered/s"] / ceiling["delivered/s"]
    return Result(
        "End to end, and the ceiling",
        f"{scale.events:,} events of 1 KB, each to one of {WEBHOOKS} webhooks, published {_BATCH} a request by "
        f"{_HANDS} hands through REST while one worker delivers. The ceiling inserts, claims, signs, sends and "
        "settles in one process, and does nothing else.",
        [{"what": "Hookline", **whole}, {"what": "ceiling", **dict.fromkeys(whole, ""), **ceiling}],
        [(f"delivers at least 0.6 of the ceiling: {ratio:.2f}", ratio >= 0.6)],
        {"ratio": ratio, "hookline": whole, "ceiling": ceiling, "costliest": costliest},
    )


async def dev_mode(stand: Stand, scale: Scale) -> Result:
    """Benchmark 7."""
    events = scale.events // 2
    async with stand.running_dev() as running:
        await create_webhooks(running, stand, WEBHOOKS)
        row = await through(running, stand, events)
    row.pop("costliest")
    terms = f"The same in one process on SQLite (`hookline dev`), {events:,} events."
    return Result("Dev mode", terms, [row], details=dict(row))


async def through(running: Running, stand: Stand, events: int) -> Row:
    """Publishes so many events to WEBHOOKS, waits until all have arrived and are settled, and counts the cost."""
    await by_hands(running.client, [running.publication(batch) for batch in batches(500, _BATCH, WEBHOOKS)], _HANDS)
    await stand.receiver.wait_for(500, _WITHIN_S)  # all caches are filled by now, and all connections open
    await stand.receiver.forget()
    requests = [running.publication(batch) for batch in batches(events, _BATCH, WEBHOOKS)]
    meter = Meter(running)
    await meter.begin()
    began = time.perf_counter()
    published = await by_hands(running.client, requests, _HANDS)
    await stand.receiver.wait_for(events, _WITHIN_S)
    seconds = time.perf_counter() - began
    if not running.database_url.startswith("sqlite"):
        await settled(running)
    cost, memory = await meter.read(), meter.memory()
    thousands = events / 1000
    return {
        "published/s": round(events / published.seconds),
        "delivered/s": round(events / seconds),
        **{f"CPU s/1000, {name[6:]}": round(cost[name] / thousands, 3) for name in cost if name.startswith("cpu_s_")},
        "statements/1000": round(cost["statements"] / thousands, 1),
        **{f"MB, {name[3:]}": round(memory[name]) for name in memory},
        "costliest": await meter.costliest(),
    }


async def create_webhooks(running: Running, stand: Stand, count: int) -> list[str]:
    """So many webhooks, each with a type and an origin of its own."""
    create = running.product.create_webhook
    return [(await create(f"{stand.receiver.origin(lane)}/{lane}", f"{TYPE}.{lane}"))[0] for lane in range(count)]


async def _ceiling(stand: Stand, events: int) -> Row:
    url = await stand.postgresql.create_database()
    await stand.receiver.forget()
    program = sys.executable, "-m", "benchmarks.ceiling"
    origins = ",".join(map(stand.receiver.origin, range(WEBHOOKS)))
    output = await stand.run_program(*program, url, origins, str(events))
    await stand.receiver.wait_for(events, _WITHIN_S)
    await stand.postgresql.drop_database(url)
    figures = orjson.loads(output)
    return {
        "published/s": round(figures["published_per_second"]),
        "delivered/s": round(figures["delivered_per_second"]),
        "CPU s/1000, worker": round(figures["cpu_s_ceiling"] * 1000 / events, 3),
    }
