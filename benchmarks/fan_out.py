"""Benchmark 5: one event to many webhooks, and what finding them costs among many more."""

import time

import asyncpg

from benchmarks.end_to_end import create_webhooks
from benchmarks.events import TYPE, event_of
from benchmarks.load import by_hands, quantile
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Running, Stand, settled

_WIDTHS = (1, 10, 100, 1000)
_WITHIN_S = 120

_COPY = """
INSERT INTO webhook SELECT (jsonb_populate_record(w, jsonb_build_object(
  'id', gen_random_uuid(), 'event_patterns', jsonb_build_array(format($3::text, n)))
)).* FROM webhook w, generate_series(1, $2) n WHERE w.id = $1
"""


async def fan_out(stand: Stand, scale: Scale) -> Result:
    """Benchmark 5, the first half."""
    rows: list[Row] = []
    for width in _WIDTHS:
        async with stand.running() as running:
            for number in range(width):
                await running.product.create_webhook(f"{stand.receiver.origin(number)}/{number}", f"{TYPE}.0")
            request = running.publication(event_of(0))
            await by_hands(running.client, [request] * 3, 1)
            await stand.receiver.wait_for(width * 3, _WITHIN_S)
            answered_ms, all_ms = [], []
            for _ in range(scale.repeats):
                await settled(running)
                await stand.receiver.forget()
                began = time.perf_counter()
                answered = await by_hands(running.client, [request], 1)
                await stand.receiver.wait_for(width, _WITHIN_S)
                all_ms.append((time.perf_counter() - began) * 1000)
                answered_ms.append(answered.milliseconds(0.5))
            middle = quantile(all_ms, 0.5)
            rows.append({
                "webhooks": width,
                "answered, ms": round(quantile(answered_ms, 0.5), 1),
                "all received, ms": round(middle, 1),
                "worst, ms": round(max(all_ms), 1),
                "deliveries/s": round(width / middle * 1000),
            })  # fmt: skip
    terms = f"One event of 1 KB, {scale.repeats} times, each when the last was done; medians."
    return Result("Fan-out", terms, rows, details={"rows": rows})


async def matching(stand: Stand, scale: Scale) -> Result:
    """Benchmark 5, the second half."""
    rows: list[Row] = []
    for shape in ("order.created.%s", "order%s.*"):
        for webhooks in (10, scale.webhooks):
            async with stand.running(workers=0) as running:
                rows.append(await _matching(running, stand, webhooks, shape, scale.repeats))
    return Result(
        "Matching",
        "Publishing an event of 1 KB that one webhook of many wants, one request at a time: of a type seen before, of "
        "a type seen for the first time, and right after some webhook was changed (and the index is made anew).",
        rows,
        details={"rows": rows},
    )


async def _matching(running: Running, stand: Stand, webhooks: int, shape: str, repeats: int) -> Row:
    [wanted] = await create_webhooks(running, stand, 1)
    connection = await asyncpg.connect(running.database_url)
    await connection.execute(_COPY, (await connection.fetchval("SELECT id FROM webhook")), webhooks - 1, shape)
    await connection.execute("UPDATE organization SET version = version + 1")
    await connection.execute("ANALYZE")
    await connection.close()
    await by_hands(running.client, [running.publication(event_of(0))] * 20, 1)
    known = await by_hands(running.client, [running.publication(event_of(0))] * 200, 1)
    fresh = [running.publication(event_of(0) | {"type": f"never.seen{number}"}) for number in range(200)]
    unknown = await by_hands(running.client, fresh, 1)
    changed = []
    for number in range(repeats):
        await running.product.update_webhook(wanted, name=f"name {number}")
        answered = await by_hands(running.client, [running.publication(event_of(0))], 1)
        changed.append(answered.milliseconds(0.5))
    return {
        "webhooks": f"{webhooks:,} like {shape % 7}",
        "known type, ms": round(known.milliseconds(0.5), 2),
        "new type, ms": round(unknown.milliseconds(0.5), 2),
        "after a change, ms": round(quantile(changed, 0.5), 1),
    }
