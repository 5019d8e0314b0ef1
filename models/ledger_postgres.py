"""The ledger on PostgreSQL: one statement for a whole batch, by arrays.

See `models.ledger` for what each method does.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from tortoise.backends.asyncpg.client import AsyncpgDBClient
from tortoise.backends.base.client import BaseDBAsyncClient

from models import gate, health, rollup, tally
from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.ids import new_id
from models.latency import BUCKETS
from models.ledger import (
    ATTEMPT_COLUMNS,
    COUNT_ENDED,
    LEASE_SLACK_MS,
    NOTHING,
    AttemptRecord,
    Claimed,
    EarlierUse,
    IdempotencyClaim,
    NewEvent,
    Outdated,
    Repeat,
    Settled,
    Settlement,
    StoredEvent,
    WaitingLane,
    left_for_replays,
    new_fence,
    replay_counts,
)
from models.webhook import DisabledReason

PENDING, SENDING, RETRYING, SUCCEEDED, DEAD_LETTERED, CANCELED = map(int, DeliveryStatus)

_DUE = """
WITH due AS MATERIALIZED (
  SELECT one.* FROM unnest($2::uuid[], $3::int[]) AS wanted(webhook_id, most), LATERAL (
    SELECT id, webhook_id, status, lease_until FROM delivery
    WHERE webhook_id = wanted.webhook_id AND due_at <= $1::bigint AND (lease_until IS NULL OR lease_until <= $1)
      AND replay_id IS NULL
    ORDER BY due_at LIMIT wanted.most FOR UPDATE SKIP LOCKED) AS one
)"""
# Those that nobody had before, of webhooks that are neither paused nor gone: nearly always all. One statement, and so
# one transaction; a row without an id says that there are others, for `_CLAIM`.
# `hasty`: nobody waits until the disk has it, which may take longer than all else. A PostgreSQL that crashes just then
# forgets the claim: what was sent is sent again, under another fence.
_CLAIM_PLAIN = f"""
{_DUE}, judged AS MATERIALIZED (
  SELECT due.*, w.revision, w.timeout_ms,
    due.lease_until IS NULL AND w.deleted_at IS NULL AND w.status NOT IN ('PAUSED', 'DISABLED') AS is_plain
  FROM due JOIN webhook w ON w.id = due.webhook_id
), taken AS (
  UPDATE delivery d SET status = {SENDING}, attempt_count = d.attempt_count + 1, fence = $4::int,
    lease_until = $1 + j.timeout_ms + {LEASE_SLACK_MS}
  FROM judged j WHERE d.id = j.id AND d.webhook_id = j.webhook_id AND j.is_plain
  RETURNING d.id, d.organization_id, d.webhook_id, j.revision, d.event_id, d.trigger, d.attempt_count,
    d.failure_count, d.fence, d.created_at, d.replay_id
), hasty AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'off', TRUE)
)
SELECT taken.* FROM taken, hasty
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
WHERE EXISTS (SELECT 1 FROM judged WHERE NOT is_plain)
"""
_CLAIM = f"""
{_DUE}, paused AS MATERIALIZED (
  SELECT id FROM webhook WHERE id IN (SELECT webhook_id FROM due) AND status = 'PAUSED' AND deleted_at IS NULL
  FOR SHARE SKIP LOCKED
), judged AS (
  SELECT due.*, w.revision, w.timeout_ms,
    CASE WHEN w.deleted_at IS NOT NULL OR w.status = 'DISABLED' THEN 'cancel'
         WHEN p.id IS NOT NULL THEN 'park' ELSE 'send' END AS verdict
  FROM due JOIN webhook w ON w.id = due.webhook_id LEFT JOIN paused p ON p.id = w.id
  WHERE w.deleted_at IS NOT NULL OR w.status <> 'PAUSED' OR p.id IS NOT NULL
)
UPDATE delivery d SET
  status = CASE j.verdict WHEN 'send' THEN {SENDING} WHEN 'cancel' THEN {CANCELED}
           ELSE CASE WHEN d.failure_count > 0 THEN {RETRYING} ELSE {PENDING} END END,
  attempt_count = d.attempt_count + CASE j.verdict WHEN 'send' THEN 1 ELSE 0 END,
  fence = $4::int,
  due_at = CASE j.verdict WHEN 'send' THEN d.due_at END,
  lease_until = CASE j.verdict WHEN 'send' THEN $1 + j.timeout_ms + {LEASE_SLACK_MS} END,
  completed_at = CASE j.verdict WHEN 'cancel' THEN $1::bigint END
FROM judged j WHERE d.id = j.id AND d.webhook_id = j.webhook_id
RETURNING d.id, d.organization_id, d.webhook_id, j.revision, d.event_id, d.trigger, d.attempt_count, d.failure_count,
  d.fence, d.created_at, d.replay_id, j.verdict, j.status AS was, j.lease_until AS lease_was, j.timeout_ms
"""
# `paused`: a paused webhook is locked while its deliveries are parked. Else somebody could enable it and look for what
# is parked just before this is, and those deliveries would wait for ever. While somebody else has it locked, they
# stay due, for the next claim.
_CLAIM_REPLAYED = _CLAIM.replace("AND replay_id IS NULL", "AND replay_id IS NOT NULL")

# One look into the index for each webhook: it jumps from the first entry of one to the first entry of the next.
_LANES_OF = """
  (SELECT webhook_id, organization_id, due_at FROM delivery WHERE due_at IS NOT NULL AND replay_id {which}
   ORDER BY webhook_id, due_at LIMIT 1)
  UNION ALL
  SELECT next.* FROM {name}, LATERAL (
    SELECT webhook_id, organization_id, due_at FROM delivery
    WHERE due_at IS NOT NULL AND replay_id {which} AND webhook_id > {name}.webhook_id
    ORDER BY webhook_id, due_at LIMIT 1) AS next
"""
_LANES = f"""
WITH RECURSIVE lane AS ({_LANES_OF.format(name="lane", which="IS NULL")}),
  replayed AS ({_LANES_OF.format(name="replayed", which="IS NOT NULL")})
SELECT *, FALSE FROM lane UNION ALL SELECT *, TRUE FROM replayed
"""

# One statement, and so one transaction without a round trip for its beginning and one for its end.
_APPEND = f"""
WITH known AS MATERIALIZED (
  SELECT count(*) = cardinality($15::uuid[]) AS unchanged FROM unnest($15::uuid[], $16::bigint[]) AS u(i, v)
  JOIN organization o ON o.id = u.i AND o.version = u.v AND o.deleted_at IS NULL
), written AS (
  INSERT INTO event (id, organization_id, type, occurred_at, received_at, body, data_offset, is_test)
  SELECT i, o, t, a, r, b, f, FALSE
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::smallint[])
    AS u(i, o, t, a, r, b, f), known WHERE unchanged
), made AS (
  INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, status, trigger, replay_of_id,
                        attempt_count, failure_count, due_at, fence, created_at)
  SELECT i, o, w, e, t, {PENDING}, {int(DeliveryTrigger.EVENT)}, r, 0, 0, c, 0, c
  FROM unnest($8::uuid[], $9::uuid[], $10::uuid[], $11::uuid[], $12::text[], $13::uuid[], $14::bigint[])
    AS u(i, o, w, e, t, r, c), known WHERE unchanged
)
SELECT unchanged FROM known
"""

_APPEND_REPEATS = f"""
INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, replay_id, replay_of_id, status, trigger,
                      attempt_count, failure_count, due_at, fence, created_at)
SELECT u.*, {PENDING}, {int(DeliveryTrigger.REPLAY)}, 0, 0, $8::bigint, 0, $8::bigint
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::uuid[]) AS u
"""

_APPEND_KEYS = """
INSERT INTO idempotency AS i (organization_id, operation, key, request_digest, result_id, created_at)
SELECT *, $6::bigint FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::uuid[])
ON CONFLICT (organization_id, operation, key) DO UPDATE
  SET request_digest = excluded.request_digest, result_id = excluded.result_id, created_at = excluded.created_at
  WHERE i.created_at <= $6::bigint - $7::bigint
RETURNING organization_id, operation, key
"""

_NEW_GATES = """
INSERT INTO webhook_gate SELECT i, most, $3 FROM unnest($1::uuid[], $2::float8[]) AS u(i, most)
ON CONFLICT (webhook_id) DO NOTHING
"""
_LOCK_GATES = """
SELECT webhook_id, tokens, refilled_at FROM webhook_gate WHERE webhook_id = ANY($1::uuid[])
ORDER BY webhook_id FOR UPDATE
"""
_PUT_GATES = """
UPDATE webhook_gate g SET tokens = u.tokens, refilled_at = u.refilled_at
FROM unnest($1::uuid[], $2::float8[], $3::bigint[]) AS u(i, tokens, refilled_at) WHERE g.webhook_id = u.i
"""
_REFUND = """
UPDATE webhook_gate g SET tokens = g.tokens + u.unused
FROM (SELECT * FROM unnest($1::uuid[], $2::int[]) AS u(i, unused)
      JOIN webhook_gate ON webhook_id = i ORDER BY i FOR UPDATE OF webhook_gate) AS u WHERE g.webhook_id = u.i
"""

_SETTLE = f"""
WITH won AS (
  UPDATE delivery d SET
    status = r.status, due_at = r.due_at, lease_until = NULL,
    failure_count = d.failure_count + CASE r.outcome WHEN {int(AttemptOutcome.SUCCESS)} THEN 0 ELSE 1 END,
    last_outcome = r.outcome, last_status_code = r.code,
    completed_at = CASE WHEN r.due_at IS NULL THEN $1::bigint END,
    dead_at = CASE r.status WHEN {DEAD_LETTERED} THEN $1::bigint END
  FROM unnest($2::uuid[], $3::int[], $4::smallint[], $5::bigint[], $6::uuid[], $7::smallint[], $8::smallint[],
    $9::text[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::int[], $15::smallint[], $16::text[],
    $17::bytea[], $18::bool[])
    AS r(id, fence, status, due_at, attempt_id, number, outcome, error, started_at, duration_us, url, headers, bytes,
         code, response_headers, excerpt, truncated)
  WHERE d.id = r.id AND d.fence = r.fence AND CASE d.status WHEN {SENDING} THEN TRUE END
  RETURNING r.attempt_id, d.organization_id, d.id, d.webhook_id, r.number, r.outcome, r.error, r.started_at,
    r.duration_us, r.url, r.headers, r.bytes, r.code, r.response_headers, r.excerpt, r.truncated
)
INSERT INTO attempt ({ATTEMPT_COLUMNS}) SELECT * FROM won RETURNING delivery_id
"""
# CASE hides the status from the planner. Told plainly, and with statistics of a moment when nothing was being sent, it
# expects one such row in the whole table, and looks for it by reading all of it.

_ATTEMPTS = f"""
INSERT INTO attempt ({ATTEMPT_COLUMNS})
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::smallint[], $6::smallint[], $7::text[],
  $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::int[], $13::smallint[], $14::text[], $15::bytea[],
  $16::bool[])
"""

# All histograms in one array, one behind the other: PostgreSQL's unnest knows no arrays of arrays.
_HISTOGRAM = ", ".join(f"($10::int[])[{BUCKETS} * (n::int - 1) + {i}]" for i in range(1, BUCKETS + 1))
_SLICES = ", ".join(f"({resolution}, ${n}::bigint)" for n, resolution in enumerate(rollup.RESOLUTIONS_MS, 1))
_ROLLUP = rollup.upsert(
    f"SELECT id, resolution, start, a, b, c, d, e, most, {_HISTOGRAM} "
    "FROM unnest($3::uuid[], $4::int[], $5::int[], $6::int[], $7::int[], $8::int[], $9::bigint[]) "
    f"WITH ORDINALITY AS u(id, a, b, c, d, e, most, n), (VALUES {_SLICES}) AS slice(resolution, start) "
    "ORDER BY id, resolution",
    "GREATEST",
)
_HEALTH = health.upsert(
    "SELECT * FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bool[])"
)
_TALLY = tally.upsert("SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::int[])")
_TRIGGERS = {int(trigger): trigger for trigger in DeliveryTrigger}


class PostgresLedger:
    """The ledger on PostgreSQL 12 or newer."""

    def __init__(self, client: AsyncpgDBClient) -> None:
        self._client = client

    @asynccontextmanager
    async def _connection(self, within: BaseDBAsyncClient | None = None) -> AsyncIterator[Any]:
        async with (within or self._client).acquire_connection() as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        async with self._client.acquire_connection() as connection, connection.transaction():
            yield connection

    async def ping(self) -> None:
        async with self._connection() as connection:
            await connection.execute("SELECT 1")

    async def versions(self, organizations: Sequence[UUID]) -> dict[UUID, int]:
        async with self._connection() as connection:
            rows = await connection.fetch(
                "SELECT id, version FROM organization WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL",
                organizations,
            )
        return {row["id"]: row["version"] for row in rows}

    async def wishes(self, organization_id: UUID) -> list[tuple[UUID, str]]:
        async with self._connection() as connection:
            return [
                (webhook_id, patterns)
                for webhook_id, patterns in await connection.fetch(
                    "SELECT id, event_patterns FROM webhook "
                    "WHERE organization_id = $1 AND deleted_at IS NULL AND status <> 'DISABLED'",
                    organization_id,
                )
            ]

    async def earlier_uses(
        self, claims: Sequence[IdempotencyClaim], now: int, lifetime_ms: int
    ) -> dict[tuple[UUID, str, str], EarlierUse]:
        if not claims:
            return {}
        async with self._connection() as connection:
            rows = await connection.fetch(
                "SELECT i.* FROM idempotency i JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS u(o, p, k) "
                "ON i.organization_id = u.o AND i.operation = u.p AND i.key = u.k WHERE i.created_at > $4",
                [claim.organization_id for claim in claims],
                [claim.operation for claim in claims],
                [claim.key for claim in claims],
                now - lifetime_ms,
            )
        return {
            (row["organization_id"], row["operation"], row["key"]): EarlierUse(row["request_digest"], row["result_id"])
            for row in rows
        }

    async def append(
        self,
        events: Sequence[NewEvent],
        claims: Sequence[IdempotencyClaim],
        now: int,
        lifetime_ms: int,
        versions: Mapping[UUID, int] = NOTHING,
    ) -> set[tuple[UUID, str, str]]:
        async with self._client.acquire_connection() as connection:
            if not claims:
                await _append(connection, events, versions)
                return set()
            transaction = connection.transaction()
            await transaction.start()
            try:
                lost = await _take_keys(connection, claims, now, lifetime_ms)
                if not lost:
                    await _append(connection, events, versions)
            except BaseException:
                await transaction.rollback()
                raise
            if lost:
                await transaction.rollback()
            else:
                await transaction.commit()
            return lost

    async def append_test(
        self, event: NewEvent, delivery_id: UUID, webhook_id: UUID, webhook_revision: int, lease_until: int
    ) -> Claimed:
        now = event.received_at
        async with self._transaction() as connection:
            await connection.execute(
                "INSERT INTO event (id, organization_id, type, occurred_at, received_at, body, data_offset, is_test) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, TRUE)",
                event.id, event.organization_id, event.type, event.occurred_at, now, event.body, event.data_offset,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, status, trigger, "
                "attempt_count, failure_count, due_at, lease_until, fence, created_at) "
                f"VALUES ($1, $2, $3, $4, $5, {SENDING}, {int(DeliveryTrigger.TEST)}, 1, 0, $6, $7, 1, $6)",
                delivery_id, event.organization_id, webhook_id, event.id, event.type, now, lease_until,
            )  # fmt: skip
        return Claimed(
            delivery_id, event.organization_id, webhook_id, webhook_revision, event.id, DeliveryTrigger.TEST,
            number=1, failures=0, fence=1, created_at=now,
        )  # fmt: skip

    async def lanes(self) -> list[WaitingLane]:
        async with self._connection() as connection:
            return [WaitingLane(*row) for row in await connection.fetch(_LANES)]

    async def claim(
        self, now: int, wanted: Mapping[UUID, int], replayed: Mapping[UUID, int] = NOTHING
    ) -> list[Claimed]:
        async with self._connection() as connection:
            rows = await connection.fetch(_CLAIM_PLAIN, now, list(wanted.keys()), list(wanted.values()), new_fence())
            claimed = [_claimed(row) for row in rows if row["id"] is not None]
        has_others = len(claimed) < len(rows)
        if has_others or left_for_replays((one.webhook_id for one in claimed), wanted, replayed):
            try:
                claimed += await self._claim_others(now, wanted, replayed, claimed, only_replays=not has_others)
            except Exception:
                if not claimed:  # those are to be sent; if the database is away, it will be heard of soon enough
                    raise
        return claimed

    async def _claim_others(
        self,
        now: int,
        wanted: Mapping[UUID, int],
        replayed: Mapping[UUID, int],
        claimed: Sequence[Claimed],
        *,
        only_replays: bool,
    ) -> list[Claimed]:
        """What is not plain, and then what replays made. `claimed`: what was taken already, of what is wanted."""
        taken = Counter(one.webhook_id for one in claimed)
        left = {} if only_replays else {i: most - taken[i] for i, most in wanted.items() if most > taken[i]}
        fence = new_fence()
        async with self._transaction() as connection:
            rows = await connection.fetch(_CLAIM, now, list(left.keys()), list(left.values()), fence) if left else []
            taken.update(row["webhook_id"] for row in rows)
            if left := left_for_replays(taken.elements(), wanted, replayed):
                rows += await connection.fetch(_CLAIM_REPLAYED, now, list(left.keys()), list(left.values()), fence)
            await _write_attempts(connection, [_abandoned(row) for row in rows if row["was"] == SENDING])
            await _count_canceled(connection, [row for row in rows if row["verdict"] == "cancel"], now)
        return [_claimed(row) for row in rows if row["verdict"] == "send"]

    async def events(self, ids: Sequence[UUID]) -> dict[UUID, StoredEvent]:
        async with self._connection() as connection:
            rows = await connection.fetch(
                "SELECT id, type, body, data_offset FROM event WHERE id = ANY($1::uuid[])", ids
            )
        return {row[0]: StoredEvent(*row) for row in rows}

    async def delivery_counts(self, events: Sequence[UUID]) -> dict[UUID, int]:
        async with self._connection() as connection:
            rows = await connection.fetch(
                "SELECT event_id, count(*) AS n FROM delivery WHERE event_id = ANY($1::uuid[]) AND trigger = $2 "
                "GROUP BY event_id",
                events,
                int(DeliveryTrigger.EVENT),
            )
        return {row["event_id"]: row["n"] for row in rows}

    async def settle(self, settlements: Sequence[Settlement], now: int, failing_limit_ms: int) -> Settled:
        async with self._transaction() as connection:
            attempts = [s.attempt for s in settlements]
            won = await connection.fetch(
                _SETTLE,
                now,
                [s.claimed.id for s in settlements],
                [s.claimed.fence for s in settlements],
                [s.status for s in settlements],
                [s.due_at for s in settlements],
                [a.id for a in attempts],
                [a.number for a in attempts],
                [a.outcome for a in attempts],
                [a.error for a in attempts],
                [a.started_at for a in attempts],
                [a.duration_us for a in attempts],
                [a.request_url for a in attempts],
                [a.request_headers for a in attempts],
                [a.request_bytes for a in attempts],
                [a.response_status for a in attempts],
                [a.response_headers for a in attempts],
                [a.response_excerpt for a in attempts],
                [a.response_truncated for a in attempts],
            )
            accepted = {row[0] for row in won}
            taken = [s for s in settlements if s.claimed.id in accepted]
            await _add(connection, rollup.increments(taken), now)
            await _tally(connection, ((s.claimed.webhook_id, s.status) for s in taken if s.due_at is None))
            if replays := replay_counts(taken):
                await connection.executemany(COUNT_ENDED, replays)
            changes = [health.row_of(*item) for item in health.changes(taken, now).items()]
            rows = await connection.fetch(_HEALTH, *zip(*changes, strict=True)) if changes else []
            reasons = health.reasons(taken)
            for row in rows:
                if health.has_failed_too_long(row["failing_since"], row["last_failure_at"], failing_limit_ms):
                    reasons.setdefault(row["webhook_id"], DisabledReason.CONSECUTIVE_FAILURES)
            disabled = [
                (webhook_id, reason)
                for webhook_id, reason in sorted(reasons.items())
                if await _disable(connection, webhook_id, reason, now)
            ]
        return Settled(accepted, disabled)

    async def release(self, claimed: Sequence[Claimed], now: int) -> None:
        async with self._connection() as connection:
            await connection.execute(
                f"UPDATE delivery d SET status = CASE WHEN d.failure_count > 0 THEN {RETRYING} ELSE {PENDING} END, "
                "due_at = $3, lease_until = NULL, attempt_count = d.attempt_count - 1 "
                "FROM unnest($1::uuid[], $2::int[]) AS r(id, fence) "
                f"WHERE d.id = r.id AND d.fence = r.fence AND d.status = {SENDING}",
                [c.id for c in claimed],
                [c.fence for c in claimed],
                now,
            )

    async def park(self, webhook_id: UUID, *, within: BaseDBAsyncClient | None = None) -> int:
        return await self._count(
            within,
            f"UPDATE delivery SET due_at = NULL WHERE webhook_id = $1 AND completed_at IS NULL "
            f"AND status IN ({PENDING}, {RETRYING}) AND due_at IS NOT NULL",
            webhook_id,
        )

    async def unpark(self, webhook_id: UUID, now: int, *, within: BaseDBAsyncClient | None = None) -> int:
        return await self._count(
            within,
            f"UPDATE delivery SET due_at = $2::bigint WHERE webhook_id = $1 AND completed_at IS NULL "
            f"AND status IN ({PENDING}, {RETRYING}) AND due_at IS NULL "
            "AND EXISTS (SELECT 1 FROM webhook WHERE id = $1 AND status = 'ENABLED')",
            webhook_id,
            now,
        )

    async def cancel_waiting(self, webhook_id: UUID, now: int, *, within: BaseDBAsyncClient | None = None) -> int:
        async with self._connection(within) if within is not None else self._transaction() as connection:
            return await _cancel_waiting(connection, "webhook_id", webhook_id, now)

    async def append_repeats(
        self, repeats: Sequence[Repeat], now: int, *, within: BaseDBAsyncClient | None = None
    ) -> None:
        async with self._connection(within) as connection:
            await connection.execute(
                _APPEND_REPEATS,
                [r.id for r in repeats],
                [r.organization_id for r in repeats],
                [r.webhook_id for r in repeats],
                [r.event_id for r in repeats],
                [r.event_type for r in repeats],
                [r.replay_id for r in repeats],
                [r.replay_of_id for r in repeats],
                now,
            )

    async def cancel_replayed(self, replay_id: UUID, now: int, *, within: BaseDBAsyncClient | None = None) -> int:
        async with self._connection(within) if within is not None else self._transaction() as connection:
            return await _cancel_waiting(connection, "replay_id", replay_id, now)

    async def disable(self, webhook_id: UUID, reason: DisabledReason, now: int) -> bool:
        async with self._transaction() as connection:
            return await _disable(connection, webhook_id, reason, now)

    async def admit(self, wishes: Mapping[UUID, gate.Wish], now: int) -> dict[UUID, int]:
        ids = sorted(wishes)  # all lock in one order
        admitted: dict[UUID, int] = {}
        changed: list[tuple[UUID, float, int]] = []
        async with self._transaction() as connection:
            full = [gate.most_at_once(wishes[i].per_second) for i in ids]
            await connection.execute(_NEW_GATES, ids, full, now)
            for webhook_id, *bucket in await connection.fetch(_LOCK_GATES, ids):
                admitted[webhook_id], after = gate.admit(gate.Bucket(*bucket), wishes[webhook_id], now)
                changed.append((webhook_id, after.tokens, after.refilled_at))
            await connection.execute(_PUT_GATES, *map(list, zip(*changed, strict=True)))
        return admitted

    async def refund(self, unused: Mapping[UUID, int]) -> None:
        async with self._connection() as connection:
            await connection.execute(_REFUND, sorted(unused), [unused[i] for i in sorted(unused)])

    async def sweep(self, now: int) -> None:
        async with self._connection() as connection:
            await connection.execute("DELETE FROM idempotency WHERE created_at < $1", now - 48 * rollup.HOUR_MS)
            for resolution, kept in (
                (rollup.MINUTE_MS, rollup.MINUTES_KEPT_MS),
                (rollup.HOUR_MS, rollup.HOURS_KEPT_MS),
            ):
                await connection.execute(
                    "DELETE FROM delivery_rollup WHERE resolution_ms = $1 AND start < $2",
                    resolution,
                    now - kept,
                )

    async def _count(self, within: BaseDBAsyncClient | None, sql: str, *parameters: object) -> int:
        async with self._connection(within) as connection:
            return _affected(await connection.execute(sql, *parameters))


def _is_test(row: Any) -> bool:
    return bool(row["trigger"] == DeliveryTrigger.TEST)


def _affected(status: str) -> int:
    return int(status.rpartition(" ")[2])


async def _take_keys(
    connection: Any, claims: Sequence[IdempotencyClaim], now: int, lifetime_ms: int
) -> set[tuple[UUID, str, str]]:
    """Writes idempotency keys, in one order so that concurrent writers cannot block each other in a circle."""
    ordered = sorted(claims, key=lambda c: (c.organization_id, c.operation, c.key))
    rows = await connection.fetch(
        _APPEND_KEYS,
        [c.organization_id for c in ordered],
        [c.operation for c in ordered],
        [c.key for c in ordered],
        [c.request_digest for c in ordered],
        [c.result_id for c in ordered],
        now,
        lifetime_ms,
    )
    taken = {(row["organization_id"], row["operation"], row["key"]) for row in rows}
    return {(c.organization_id, c.operation, c.key) for c in ordered} - taken


async def _append(connection: Any, events: Sequence[NewEvent], versions: Mapping[UUID, int]) -> None:
    pairs = [(e, d) for e in events for d in e.deliveries]
    unchanged = await connection.fetchval(
        _APPEND,
        [e.id for e in events],
        [e.organization_id for e in events],
        [e.type for e in events],
        [e.occurred_at for e in events],
        [e.received_at for e in events],
        [e.body for e in events],
        [e.data_offset for e in events],
        [d.id for _, d in pairs],
        [e.organization_id for e, _ in pairs],
        [d.webhook_id for _, d in pairs],
        [e.id for e, _ in pairs],
        [e.type for e, _ in pairs],
        [d.replay_of_id for _, d in pairs],
        [e.received_at for e, _ in pairs],
        list(versions.keys()),
        list(versions.values()),
    )
    if not unchanged:
        raise Outdated


def _claimed(row: Any) -> Claimed:
    """A row of a claim; its columns come in the order of the fields."""
    delivery, organization, webhook, revision, event, trigger, number, failures, fence, created_at, replay, *_ = row
    return Claimed(
        delivery,
        organization,
        webhook,
        revision,
        event,
        _TRIGGERS[trigger],
        number,
        failures,
        fence,
        created_at,
        replay,
    )


def _abandoned(row: Any) -> tuple[Claimed, AttemptRecord]:
    """The record of the attempt whose lease ran out. It began when that lease was taken."""
    claimed = _claimed(row)
    sent = row["verdict"] == "send"
    lease_ms = row["timeout_ms"] + LEASE_SLACK_MS
    return claimed, AttemptRecord(
        id=new_id(),
        number=claimed.number - 1 if sent else claimed.number,
        outcome=AttemptOutcome.ABANDONED,
        error="the worker stopped before the result was known",
        started_at=row["lease_was"] - lease_ms,
        duration_us=lease_ms * 1000,
    )


async def _write_attempts(connection: Any, attempts: Sequence[tuple[Claimed, AttemptRecord]]) -> None:
    if not attempts:
        return
    await connection.execute(
        _ATTEMPTS,
        [a.id for _, a in attempts],
        [c.organization_id for c, _ in attempts],
        [c.id for c, _ in attempts],
        [c.webhook_id for c, _ in attempts],
        [a.number for _, a in attempts],
        [int(a.outcome) for _, a in attempts],
        [a.error for _, a in attempts],
        [a.started_at for _, a in attempts],
        [a.duration_us for _, a in attempts],
        [a.request_url for _, a in attempts],
        [a.request_headers for _, a in attempts],
        [a.request_bytes for _, a in attempts],
        [a.response_status for _, a in attempts],
        [a.response_headers for _, a in attempts],
        [a.response_excerpt for _, a in attempts],
        [a.response_truncated for _, a in attempts],
    )


async def _add(connection: Any, rows: dict[UUID, rollup.Increment], now: int) -> None:
    if rows:
        columns = zip(*((webhook_id, *row.counters()) for webhook_id, row in rows.items()), strict=True)
        histograms = [count for row in rows.values() for count in row.histogram]
        await connection.execute(_ROLLUP, *(start for _, start in rollup.slices(now)), *columns, histograms)


async def _cancel_waiting(connection: Any, column: str, value: UUID, now: int) -> int:
    canceled = await connection.fetch(
        f"UPDATE delivery SET status = {CANCELED}, due_at = NULL, completed_at = $2 "
        f"WHERE {column} = $1 AND completed_at IS NULL AND status IN ({PENDING}, {RETRYING}) "
        "RETURNING webhook_id, trigger",
        value,
        now,
    )
    await _count_canceled(connection, canceled, now)
    return len(canceled)


async def _count_canceled(connection: Any, rows: Sequence[Any], now: int) -> None:
    counted = Counter(row["webhook_id"] for row in rows if not _is_test(row))
    await _add(connection, rollup.cancellations(counted), now)
    await _tally(connection, ((row["webhook_id"], CANCELED) for row in rows))


async def _tally(connection: Any, ended: Iterable[tuple[UUID, int]]) -> None:
    """After the statistics, whoever it is: who has a webhook's row there has its rows here to himself."""
    if rows := tally.of(ended):
        await connection.execute(_TALLY, *zip(*rows, strict=True))


async def _disable(connection: Any, webhook_id: UUID, reason: DisabledReason, now: int) -> bool:
    # The organization first, as everybody does who changes a webhook: else two could wait for each other.
    await connection.execute(
        "UPDATE organization SET version = version + 1 WHERE id = "
        "(SELECT organization_id FROM webhook WHERE id = $1 AND status <> 'DISABLED' AND deleted_at IS NULL)",
        webhook_id,
    )
    disabled = await connection.execute(
        "UPDATE webhook SET status = 'DISABLED', disabled_reason = $2, disabled_at = $3, updated_at = $3, "
        "revision = revision + 1 WHERE id = $1 AND status <> 'DISABLED' AND deleted_at IS NULL",
        webhook_id,
        str(reason),
        now,
    )
    if not _affected(disabled):
        return False
    await _cancel_waiting(connection, "webhook_id", webhook_id, now)
    return True
