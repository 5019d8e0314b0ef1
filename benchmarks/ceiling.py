"""The ceiling: what one process reaches that does the bare minimum on the same parts.

    python -m benchmarks.ceiling DATABASE_URL ORIGIN,ORIGIN,… EVENTS

Events are inserted, claimed, signed with HMAC-SHA256, sent over our own transport and settled, each in batches, and
that is all: no door, no authentication, no idempotency, no leases that expire, no attempts, no statistics, no retries,
no fairness. What Hookline reaches on the same machine in the same minute is put beside it.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_network
from uuid import UUID

import asyncpg
import httpx
import orjson
import uvloop

from benchmarks.events import body_of
from models.ids import Prefix, encode, new_id
from workers.address_guard import AddressGuard
from workers.transport import DeliveryTransport

TABLES = """
CREATE TABLE event (id uuid PRIMARY KEY, body bytea NOT NULL);
CREATE TABLE delivery (
  id uuid PRIMARY KEY, event_id uuid NOT NULL, status smallint NOT NULL, due_at bigint, response_status smallint
);
CREATE INDEX delivery_due ON delivery (due_at) WHERE status = 1;
"""
_INSERTED_AT_ONCE = 100
_CLAIMED_AT_ONCE = 200
_IN_FLIGHT = 512
_SECRET = b"a secret of twenty-four."

_CLAIM = """
WITH due AS (SELECT id FROM delivery WHERE status = 1 AND due_at <= $1 ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE delivery d SET due_at = $1 + 60000 FROM due, event e
WHERE d.id = due.id AND e.id = d.event_id RETURNING d.id, e.id, e.body
"""
_SETTLE = """
UPDATE delivery d SET status = 2, due_at = NULL, response_status = r.code
FROM unnest($1::uuid[], $2::smallint[]) AS r(id, code) WHERE d.id = r.id
"""


class Ceiling:
    """Publisher and pump in one process."""

    def __init__(self, pool: asyncpg.Pool, origins: Sequence[str], events: int) -> None:
        self._pool = pool
        self._urls = itertools.cycle([httpx.URL(f"{origin}/ceiling") for origin in origins])
        self._events = events
        self._transport = DeliveryTransport(guard=AddressGuard([ip_network("127.0.0.0/8")]), idle_per_origin=_IN_FLIGHT)
        self._results: list[tuple[UUID, int]] = []
        self._some_results = asyncio.Event()
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self.inserted_seconds = 0.0

    async def insert(self) -> None:
        """Writes all events, each with a delivery."""
        began = time.perf_counter()
        for first in range(0, self._events, _INSERTED_AT_ONCE):
            ids = [new_id() for _ in range(_INSERTED_AT_ONCE)]
            bodies = [orjson.dumps(body_of(first + i)) for i in range(_INSERTED_AT_ONCE)]
            now = time.time_ns() // 1_000_000
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute("INSERT INTO event SELECT * FROM unnest($1::uuid[], $2::bytea[])", ids, bodies)
                await connection.execute(
                    "INSERT INTO delivery SELECT i, e, 1, $3::bigint, NULL FROM unnest($1::uuid[], $2::uuid[]) u(i, e)",
                    [new_id() for _ in ids], ids, now,
                )  # fmt: skip
        self.inserted_seconds = time.perf_counter() - began

    async def deliver(self) -> None:
        """Claims and sends until all is sent."""
        sent = 0
        async with asyncio.TaskGroup() as group:
            while sent < self._events:
                rows = await self._pool.fetch(_CLAIM, time.time_ns() // 1_000_000, _CLAIMED_AT_ONCE)
                if not rows:
                    await asyncio.sleep(0.002)
                for row in rows:
                    await self._in_flight.acquire()
                    group.create_task(self._send(*row))
                sent += len(rows)

    async def settle(self) -> None:
        """Writes results until all are written."""
        settled = 0
        while settled < self._events:
            await self._some_results.wait()
            self._some_results.clear()
            batch, self._results = self._results, []
            await self._pool.execute(_SETTLE, [delivery_id for delivery_id, _ in batch], [code for _, code in batch])
            settled += len(batch)

    async def _send(self, delivery_id: UUID, event_id: UUID, body: bytes) -> None:
        url, webhook_id, now = next(self._urls), encode(Prefix.EVENT, event_id).encode(), b"%d" % time.time()
        signature = base64.b64encode(hmac.digest(_SECRET, b"%s.%s.%s" % (webhook_id, now, body), hashlib.sha256))
        headers = [
            (b"Host", url.netloc),
            (b"content-type", b"application/json"),
            (b"webhook-id", webhook_id),
            (b"webhook-timestamp", now),
            (b"webhook-signature", b"v1," + signature),
            (b"Content-Length", b"%d" % len(body)),
        ]
        request = httpx.Request("POST", url, headers=headers, stream=httpx.ByteStream(body))
        response = await self._transport.handle_async_request(request)
        self._in_flight.release()
        self._results.append((delivery_id, response.status_code))
        self._some_results.set()


async def main(database_url: str, origins: Sequence[str], events: int) -> None:
    """Runs it and prints figures as JSON."""
    async with asyncpg.create_pool(database_url, min_size=4, max_size=4) as pool:
        await pool.execute(TABLES)
        ceiling = Ceiling(pool, origins, events)
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(ceiling.insert(), ceiling.deliver(), ceiling.settle())
        seconds = time.perf_counter() - began
        figures = {
            "published_per_second": events / ceiling.inserted_seconds,
            "delivered_per_second": events / seconds,
            "cpu_s_ceiling": time.process_time() - cpu,
        }
        sys.stdout.write(orjson.dumps(figures).decode())


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])))
