"""Benchmark 6: the same with millions of past deliveries in the tables, and what lists and statistics take there."""

import asyncpg

from benchmarks.end_to_end import WEBHOOKS, create_webhooks, through
from benchmarks.latency import at
from benchmarks.load import by_hands
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Running, Stand
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
    "events, first page": "{ events(first: 50) { edges { node { id type receivedAt } } } }",
    "webhooks with statistics": (
        "{ webhooks(first: 10) { edges { node { id "
        "stats(window: MONTH) { attempts successRate latencyMs { p99 } } } } } }"
    ),
}


async def growth(stand: Stand, scale: Scale) -> Result:
    """Benchmark 6."""
    results: list[tuple[str, Row, Row, Row]] = []
    for past in (0, scale.past_deliveries):
        async with stand.running() as running:
            await create_webhooks(running, stand, WEBHOOKS)
            if past:
                await _fill(running, past)
            whole = await through(running, stand, scale.events // 2)
            whole.pop("costliest")
            late = await at(running, stand, 200, 1, scale)
            pages = {what: await _page(running, document) for what, document in _PAGES.items()}
            results.append((f"{past:,}", whole, late, pages))
    rows = [
        {
            "past deliveries": past,
            "delivered/s": whole["delivered/s"],
            "published/s": whole["published/s"],
            "latency p50 ms": late["p50 ms"],
            "latency p99 ms": late["p99 ms"],
            **{f"{what}, p50 ms": figure for what, figure in pages.items()},
        }
        for past, whole, late, pages in results
    ]
    kept = rows[1]["delivered/s"] / rows[0]["delivered/s"]
    slowest = max(figure for name, figure in rows[1].items() if name.endswith("p50 ms") and "latency" not in name)
    return Result(
        "Growth",
        f"The first and the fourth measurement on empty tables, and with {scale.past_deliveries:,} deliveries of the "
        f"last {_DAYS} days in them, each with its event and attempt.",
        rows,
        [
            (f"delivers within 10 % of empty: {kept:.2f}", kept >= 0.9),
            (f"lists and statistics under 20 ms: {slowest}", slowest < 20),
        ],
        {"rows": rows},
    )


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
