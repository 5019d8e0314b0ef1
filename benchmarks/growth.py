"""Benchmark 6: the same with millions of past deliveries in the tables, and what lists and statistics take there."""

from dataclasses import replace
from statistics import median

import asyncpg

from benchmarks.end_to_end import WEBHOOKS, create_webhooks, through
from benchmarks.latency import at
from benchmarks.load import by_hands
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Running, Stand
from models import tally
from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger

_DAYS = 30
_PAST = f"""
CREATE FUNCTION pg_temp.id_at(ms bigint) RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;
CREATE TEMP TABLE past AS
  SELECT pg_temp.id_at(at) AS event_id, pg_temp.id_at(at) AS id, pg_temp.id_at(at + 1) AS attempt_id,
    at, hooks.ids[1 + n % array_length(hooks.ids, 1)] AS webhook_id, hooks.organization_id, n
  FROM (SELECT array_agg(id ORDER BY id) AS ids, min(organization_id::text)::uuid AS organization_id FROM webhook)
      AS hooks,
    LATERAL (SELECT n, {{now}} - {_DAYS * 86_400_000}::bigint * ({{count}} - n) / {{count}} AS at
             FROM generate_series(1, {{count}}) n) moments;
INSERT INTO event (id, organization_id, type, occurred_at, received_at, body, data_offset, is_test)
  SELECT event_id, organization_id, 'order.created.' || n % {WEBHOOKS}, at, at,
    convert_to('{{{{"type":"order.created","timestamp":"2026-01-01T00:00:00.000Z","data":{{{{"number":' || n ||
      '}}}}}}}}', 'UTF8'), 75, FALSE FROM past;
INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, status, trigger, attempt_count,
    failure_count, fence, last_outcome, last_status_code, created_at, completed_at)
  SELECT id, organization_id, webhook_id, event_id, 'order.created.' || n % {WEBHOOKS},
    {int(DeliveryStatus.SUCCEEDED)}, {int(DeliveryTrigger.EVENT)}, 1, 0, 1, {int(AttemptOutcome.SUCCESS)}, 200, at,
    at + 5 FROM past;
INSERT INTO attempt (id, organization_id, delivery_id, webhook_id, number, outcome, started_at, duration_us,
    request_url, request_headers, request_bytes, response_status, response_headers, response_excerpt,
    response_truncated)
  SELECT attempt_id, organization_id, id, webhook_id, 1, {int(AttemptOutcome.SUCCESS)}, at, 4000,
    'https://example.com/hooks', '[]', 100, 200, '[]', 'ok', FALSE FROM past;
{tally.upsert(f"SELECT webhook_id, {int(DeliveryStatus.SUCCEEDED)}, count(*) FROM past GROUP BY webhook_id")};
DROP TABLE past;
"""

_PAGES = {
    "deliveries, first page": "{ deliveries(first: 50) { edges { node { id status attemptCount } } } }",
    "deliveries, failed only": (
        "{ deliveries(first: 50, filter: { status: [DEAD_LETTERED] }) { edges { node { id status } } } }"
    ),
    "a webhook's deliveries": (
        "{ webhooks(first: 1) { edges { node { deliveries(first: 50) { edges { node { id status } } } } } } }"
    ),
    "deliveries, counted": "{ deliveries(first: 1) { totalCount } }",
    "deliveries, what waits": (
        "{ deliveries(first: 50, filter: { status: [PENDING, SENDING, RETRYING] }) { edges { node { id status } } } }"
    ),
    "deliveries, counted by state": (
        "{ a: deliveries(first: 1, filter: { status: [SUCCEEDED] }) { totalCount } "
        "b: deliveries(first: 1, filter: { status: [DEAD_LETTERED] }) { totalCount } }"
    ),
    "events, first page": "{ events(first: 50) { edges { node { id type receivedAt } } } }",
    "webhooks with statistics": (
        "{ webhooks(first: 10) { edges { node { id "
        "stats(window: MONTH) { attempts successRate latencyMs { p99 } } } } } }"
    ),
}


async def growth(stand: Stand, scale: Scale) -> Result:
    """Benchmark 6.

    Both databases are prepared first and measured by turns, and what is told are medians: two equal runs one after the
    other differ by more than the tenth that is asked about.
    """
    databases = {0: await stand.new_database(), scale.past_deliveries: await stand.new_database()}
    for past, url in databases.items():
        async with stand.running(database=url) as running:
            await create_webhooks(running, stand, WEBHOOKS)
            if past:
                await _fill(running, past)
    found: dict[int, list[Row]] = {past: [] for past in databases}
    for turn in range(max(2, scale.repeats // 4)):
        for past in sorted(databases, reverse=turn % 2 == 1):
            async with stand.running(database=databases[past]) as running:
                found[past].append(await _once(running, stand, scale))
    for url in databases.values():
        await stand.postgresql.drop_database(url)
    empty, full = [
        {"past deliveries": f"{past:,}", **{name: round(median(row[name] for row in rows), 3) for name in rows[0]}}
        for past, rows in found.items()
    ]
    kept = full["delivered/s"] / empty["delivered/s"]
    slowest = max(full[_named(what)] for what in _PAGES)
    targets = [(f"delivers within 10 % of empty: {kept:.2f}", kept >= 0.9)]
    for name in ("latency p50 ms", "latency p99 ms"):
        ratio = full[name] / empty[name]
        single = [sorted(row[name] for row in rows) for rows in found.values()]
        ranges = " and ".join(f"{figures[0]} to {figures[-1]}" for figures in single)
        targets.append((f"{name} within 10 % of empty: {ratio:.2f} (single runs: {ranges})", ratio <= 1.1))
    targets.append((f"lists and statistics under 20 ms: {slowest}", slowest < 20))
    return Result(
        "Growth",
        f"The first and the fourth measurement on empty tables, and with {scale.past_deliveries:,} deliveries of the "
        f"last {_DAYS} days in them, each with its event and attempt; by turns, medians of {len(found[0])} runs.",
        [empty, full],
        targets,
        {"rows": [empty, full], "runs": {str(past): rows for past, rows in found.items()}},
    )


async def _once(running: Running, stand: Stand, scale: Scale) -> Row:
    whole = await through(running, stand, scale.events // 4)
    late = await at(running, stand, 200, 1, replace(scale, seconds=scale.seconds / 2))
    return {
        "delivered/s": whole["delivered/s"],
        "published/s": whole["published/s"],
        "CPU s/1000, postgresql": whole["CPU s/1000, postgresql"],
        "latency p50 ms": late["p50 ms"],
        "latency p99 ms": late["p99 ms"],
        **{_named(what): await _page(running, document) for what, document in _PAGES.items()},
    }


def _named(what: str) -> str:
    return f"{what}, p50 ms"


async def _fill(running: Running, count: int) -> None:
    connection = await asyncpg.connect(running.database_url, command_timeout=1800)
    try:
        now = await connection.fetchval("SELECT (extract(epoch FROM now()) * 1000)::bigint")
        await connection.execute(_PAST.format(now=f"{now}::bigint", count=count))
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _page(running: Running, document: str) -> float:
    await by_hands(running.client, [running.operation(document)] * 10, 1)
    return round((await by_hands(running.client, [running.operation(document)] * 50, 1)).milliseconds(0.5), 1)
