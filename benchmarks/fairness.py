"""Benchmark 8: what receivers in trouble, long queues, rates and replays cost everybody else."""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import click
import orjson

from benchmarks.events import TYPE, body_of, data_of, event_of
from benchmarks.load import by_the_clock, quantile
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Running, Stand, settled
from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.ids import Prefix, decode
from tests.journeys.product import Product

_RATE = 200.0
"""Events a second, wherever somebody's latency is measured."""
_NEIGHBOUR_RATE = 50.0
_RECEIVERS = 20
_RATES = (5, 50, 500)
_RATES_LAST_S = 20.0
_WITHIN_S = 60
_TIMEOUT_S = 5
"""Of webhooks whose receivers are hostile."""
_GRACE_S = 0.5

_EXPECTED = {
    "silence": AttemptOutcome.TIMEOUT,
    "header_drip": AttemptOutcome.TIMEOUT,
    "body_drip": AttemptOutcome.TIMEOUT,
    "endless_chunks": AttemptOutcome.SUCCESS,
    "reset_in_mid_body": AttemptOutcome.CONNECTION_ERROR,
}
"""How an attempt at each hostile receiver ends."""

_ID_AT = """
CREATE FUNCTION pg_temp.id_at(ms bigint) RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$
"""
_ENQUEUE = f"""
WITH queue AS MATERIALIZED (
  SELECT pg_temp.id_at(at) AS id, pg_temp.id_at(at) AS event_id, at, organization_id, id AS webhook_id
  FROM webhook, LATERAL (
    SELECT (extract(epoch FROM now()) * 1000)::bigint - $2::int + n AS at FROM generate_series(1, $2::int) n
  ) AS moments WHERE id = $1
), events AS (
  INSERT INTO event (id, organization_id, type, occurred_at, received_at, body, data_offset, is_test)
  SELECT event_id, organization_id, '{TYPE}', at, at, $3, $4, FALSE FROM queue
)
INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, status, trigger, attempt_count,
  failure_count, fence, created_at, due_at, completed_at, dead_at)
SELECT id, organization_id, webhook_id, event_id, '{TYPE}', $5, {int(DeliveryTrigger.EVENT)}, $6::int, $6, $6, at,
  CASE WHEN $6 = 0 THEN at END, CASE WHEN $6 > 0 THEN at END, CASE WHEN $6 > 0 THEN at END
FROM queue
"""

_REPLAY = """
mutation($input: ReplayDeliveriesInput!) { replayDeliveries(input: $input) {
  ... on ReplayDeliveriesPayload { replay { id } } ... on UserError { code message } __typename
} }"""
_HOW_FAR = "query($id: ID!) { replay(id: $id) { enqueued succeeded } }"

_ENDED = """
SELECT split_part(w.url, '/', 4) AS behaviour, a.outcome, count(*) AS attempts, max(a.duration_us) / 1e6 AS longest
FROM attempt a JOIN webhook w ON w.id = a.webhook_id GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the measurement: its rows, and what was to be reached."""

    rows: list[Row]
    targets: list[tuple[str, bool]]


async def fairness(stand: Stand, scale: Scale) -> Result:
    """Benchmark 8."""
    parts = [await measure(stand, scale) for measure in (_hanging, _behind, _rates, _replayed, _hostile)]
    rows = [row for part in parts for row in part.rows]
    return Result(
        "Fairness",
        "How late events arrive after the publish was answered: "
        f"{_RATE:.0f} events/s to {_RECEIVERS} webhooks, half of which hang to their timeout of 15 s; another "
        f"organization's {_NEIGHBOUR_RATE:.0f} events/s while {scale.waiting:,} deliveries wait; new events while "
        f"{scale.waiting:,} are replayed to the same webhook. `maxPerSecond` as two workers keep it together. What a "
        f"worker grows by while {scale.receivers:,} receivers never answer, drip headers or body, send chunks without "
        "end, or reset the connection.",
        rows,
        [target for part in parts for target in part.targets],
        {"rows": rows},
    )


# ── half of the receivers hang ──────────────────────────────────────────────────────────────────────────────────────


async def _hanging(stand: Stand, scale: Scale) -> _Part:
    rows = []
    for what, bad in (("all receivers answer", ""), ("half of them hang", "silence"), ("all answer, again", "")):
        async with stand.running() as running:
            for lane in range(_RECEIVERS):
                path = f"/{bad}/{lane}" if bad and lane % 2 else f"/{lane}"
                await running.product.create_webhook(stand.receiver.origin(lane) + path, f"{TYPE}.{lane}")
            rows.append(await _late(stand, running, f"the healthy half: {what}", _RATE, scale.seconds, _RECEIVERS))
    before, hanging, again = (row["p99 ms"] for row in rows)
    base = (before + again) / 2
    rise, noise = (hanging / base - 1) * 100, abs(before - again) / base * 100
    return _Part(
        rows,
        [(
            f"half of the receivers hang: p99 of the others rises by less than 10 %: {rise:.0f} % (the two without "
            f"differ by {noise:.0f} %)",
            rise < 10,
        )],
    )  # fmt: skip


# ── one organization is far behind ──────────────────────────────────────────────────────────────────────────────────


async def _behind(stand: Stand, scale: Scale) -> _Part:
    rows = []
    for what, path, options in (
        ("slow receiver (1 s)", "/slow", {}),
        ("receiver capped at 50/s", "/capped", {"maxPerSecond": 50}),
        ("fast receiver", "/fast", {}),
    ):
        async with stand.running() as running, _neighbour(running) as other:
            url = stand.receiver.origin(0) + path
            webhook_id, _ = await running.product.create_webhook(url, "behind", delivery=options)
            await other.product.create_webhook(stand.receiver.origin(1) + "/0", f"{TYPE}.0")
            await _enqueue(running, webhook_id, scale.waiting, DeliveryStatus.PENDING)
            await _until(lambda: _has_come(stand, path, 1))  # noqa: B023 — awaited here
            rows.append(
                await _late(
                    stand, other, f"another is {scale.waiting:,} behind, {what}", _NEIGHBOUR_RATE, scale.seconds / 3, 1
                )
            )
            left = scale.waiting - (await stand.receiver.counts())[path]
            rows[-1]["found"] = f"{left:,} still waited at the end"
    return _Part(
        rows,
        [
            (f"{row['what']}: an event arrives within 1 s: {row['longest ms']} ms at most", row["longest ms"] <= 1000)
            for row in rows
        ],
    )


# ── rates ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _rates(stand: Stand, scale: Scale) -> _Part:
    async with stand.running(workers=2) as running:
        for number, rate in enumerate(_RATES):
            url = f"{stand.receiver.origin(number)}/{rate}"
            webhook_id, _ = await running.product.create_webhook(url, "capped", delivery={"maxPerSecond": rate})
            await _enqueue(running, webhook_id, round(rate * (_RATES_LAST_S + 10)), DeliveryStatus.PENDING)
        await _until(lambda: _has_come(stand, f"/{_RATES[0]}", 2 * _RATES[0]))
        before, began = await stand.receiver.counts(), time.monotonic()
        await asyncio.sleep(_RATES_LAST_S)
        after, took = await stand.receiver.counts(), time.monotonic() - began
    rows, targets = [], []
    for rate in _RATES:
        came = after[f"/{rate}"] - before.get(f"/{rate}", 0)
        found = came / took
        rows.append(_row(f"maxPerSecond {rate}, two workers", came, found=f"{found:.1f}/s over {took:.0f} s"))
        targets.append((f"maxPerSecond {rate}: within 5 %: {found:.1f}/s", abs(found / rate - 1) <= 0.05))
        _tell(rows[-1])
    return _Part(rows, targets)


# ── replays ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _replayed(stand: Stand, scale: Scale) -> _Part:
    async with stand.running() as running:
        webhook_id, _ = await running.product.create_webhook(stand.receiver.origin(0) + "/0", f"{TYPE}.*")
        await _enqueue(running, webhook_id, scale.waiting, DeliveryStatus.DEAD_LETTERED)
        rows = [await _late(stand, running, "new events: nothing is replayed", _RATE, scale.seconds, 1)]
        asked = {"webhookId": webhook_id, "select": {"failed": {"since": "2020-01-01T00:00:00Z"}}}
        replay = (await running.product.graphql(_REPLAY, input=asked))["replayDeliveries"]["replay"]["id"]
        await stand.receiver.forget()
        await stand.receiver.wait_for(1, _WITHIN_S)
        rows.append(await _late(stand, running, f"new events: {scale.waiting:,} are replayed", _RATE, scale.seconds, 1))
        come = await running.product.graphql(_HOW_FAR, id=replay)
        rows[-1]["found"] = f"{come['replay']['succeeded']:,} were replayed by the end"
    late = rows[-1]["p99 ms"]
    return _Part(rows, [(f"{scale.waiting:,} are replayed: p99 of new events at most 50 ms: {late}", late <= 50)])


# ── hostile receivers ───────────────────────────────────────────────────────────────────────────────────────────────


async def _hostile(stand: Stand, scale: Scale) -> _Part:
    async with stand.running() as running:
        await running.product.create_webhook(stand.receiver.origin(0) + "/0", f"{TYPE}.0")
        kinds, options = list(_EXPECTED), {"timeoutSeconds": _TIMEOUT_S, "maxAttempts": 1}
        for number in range(scale.receivers):
            url = f"{stand.receiver.origin(number)}/{kinds[number % len(kinds)]}/{number}"
            await running.product.create_webhook(url, "hostile", delivery=options)
        await _late(stand, running, "", _RATE, scale.seconds / 3, 1)  # what a worker takes once and keeps
        [worker] = running.processes["worker"]
        before = most = worker.memory_full_info().uss
        await running.product.publish("hostile", data_of(0))
        until = time.monotonic() + _TIMEOUT_S + 2
        while time.monotonic() < until:
            most = max(most, worker.memory_full_info().uss)
            await asyncio.sleep(0.1)
        await settled(running)
        after = worker.memory_full_info().uss
        connection = await asyncpg.connect(running.database_url)
        ended = [row for row in await connection.fetch(_ENDED) if row["behaviour"] in _EXPECTED]
        await connection.close()
    right = sum(row["attempts"] for row in ended if _EXPECTED[row["behaviour"]] == row["outcome"])
    longest = float(max(row["longest"] for row in ended))
    grown, kept = (most - before) / 1e6, (after - before) / 1e6
    row = _row(f"{scale.receivers:,} hostile receivers at once", right)
    row["longest ms"] = round(longest * 1000, 1)
    row["found"] = f"the worker grew by {grown:.1f} MB, and by {kept:.1f} MB in the end"
    _tell(row)
    return _Part(
        [row],
        [
            (f"hostile receivers grow the worker by less than 20 MB: {grown:.1f}", grown < 20),
            (f"each has its outcome: {right:,} of {scale.receivers:,}", right == scale.receivers),
            (
                f"each ends within its timeout of {_TIMEOUT_S} s and {_GRACE_S} s: {longest:.2f} s",
                longest <= _TIMEOUT_S + _GRACE_S,
            ),
        ],
    )


# ── what they share ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _late(stand: Stand, running: Running, what: str, rate: float, seconds: float, lanes: int) -> Row:
    """How late events arrive that are published by the clock, to so many lanes in turn; of those at `/0`, `/2`, …"""
    await _publish(running, rate, round(rate), lanes)  # connections are open by now, and caches filled
    published = await _publish(running, rate, round(rate * seconds), lanes)
    heeded = {event_id: at for lane, event_id, at in published if lane % 2 == 0}
    arrivals: dict[str, int] = {}
    deadline = time.monotonic() + _WITHIN_S
    while not heeded.keys() <= arrivals.keys():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(heeded.keys() - arrivals.keys())} events did not arrive")
        await asyncio.sleep(0.2)
        for lane in range(0, lanes, 2):
            arrivals |= await stand.receiver.arrivals(f"/{lane}")
    took = [max(0, arrivals[event_id] - at) / 1e6 for event_id, at in heeded.items()]
    row = _row(what, len(took), round(quantile(took, 0.5), 1), round(quantile(took, 0.99), 1), round(max(took), 1))
    if what:
        _tell(row)
    return row


async def _publish(running: Running, rate: float, count: int, lanes: int) -> list[tuple[int, str, int]]:
    """Of each event its lane, its id, and when its publish was answered."""
    requests = [running.publication(event_of(number, lane=number % lanes)) for number in range(count)]
    answered = await by_the_clock(running.client, requests, rate)
    events = map(orjson.loads, answered.bodies)
    return [
        (int(event["type"].rpartition(".")[2]), event["id"], at)
        for event, at in zip(events, answered.at, strict=True)
    ]  # fmt: skip


async def _enqueue(running: Running, webhook_id: str, count: int, status: DeliveryStatus) -> None:
    """Makes deliveries of a webhook that wait, or that were given up after ten attempts."""
    body = orjson.dumps(body_of(0))
    attempts = 0 if status is DeliveryStatus.PENDING else 10
    connection = await asyncpg.connect(running.database_url, command_timeout=600)
    try:
        await connection.execute(_ID_AT)
        values = decode(Prefix.WEBHOOK, webhook_id), count, body, body.index(b'{"number"'), int(status), attempts
        await connection.execute(_ENQUEUE, *values)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


@asynccontextmanager
async def _neighbour(running: Running) -> AsyncIterator[Running]:
    """The same Hookline as another organization sees it."""
    product = Product(Path(tempfile.mkdtemp(dir=running.product.folder)), running.product.env)
    product.origin = running.product.origin
    try:
        await product.run("organizations", "create", "Bolt")
        key = await product.run("keys", "create", "--organization", "Bolt", "--scope", "*", "--json")
        product.token = json.loads(key)["token"]
        yield replace(running, product=product)
    finally:
        await product.close()


async def _has_come(stand: Stand, path: str, count: int) -> bool:
    return (await stand.receiver.counts()).get(path, 0) >= count


async def _until(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while not await ask():
            await asyncio.sleep(0.05)


def _row(what: str, events: int, p50: object = "", p99: object = "", longest: object = "", found: str = "") -> Row:
    return {"what": what, "events": events, "p50 ms": p50, "p99 ms": p99, "longest ms": longest, "found": found}


def _tell(row: Row) -> None:
    click.echo(
        "  "
        + ", ".join(str(value) if name == "what" else f"{name} {value}" for name, value in row.items() if value != "")
    )
