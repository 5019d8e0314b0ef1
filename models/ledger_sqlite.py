"""The ledger on SQLite, for one process. See `models.ledger` for what each method does.

Each method is one synchronous transaction, run in one visit to the connection's own thread: a visit costs more than
the statements in it.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.backends.sqlite.client import SqliteClient

from models import gate, health, rollup, tally
from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.ids import new_id
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

T = TypeVar("T")
PENDING, SENDING, RETRYING, SUCCEEDED, DEAD_LETTERED, CANCELED = map(int, DeliveryStatus)

_DUE = """
SELECT d.id, d.organization_id, d.webhook_id, w.revision AS webhook_revision, d.event_id, d.trigger, d.attempt_count,
  d.failure_count, d.fence, d.created_at, d.replay_id, d.status, d.lease_until, w.timeout_ms,
  w.status AS webhook_status, w.deleted_at AS webhook_deleted_at
FROM delivery d JOIN webhook w ON w.id = d.webhook_id
WHERE d.webhook_id = ?2 AND d.due_at <= ?1 AND (d.lease_until IS NULL OR d.lease_until <= ?1)
  AND d.replay_id IS NULL
ORDER BY d.due_at LIMIT ?3
"""
_DUE_REPLAYED = _DUE.replace("d.replay_id IS NULL", "d.replay_id IS NOT NULL")
_TAKE = (
    f"UPDATE delivery SET status = {SENDING}, attempt_count = attempt_count + 1, fence = ?, lease_until = ? "
    "WHERE id = ?"
)
_PARK_ONE = (
    f"UPDATE delivery SET status = CASE WHEN failure_count > 0 THEN {RETRYING} ELSE {PENDING} END, fence = ?, "
    "due_at = NULL, lease_until = NULL WHERE id = ?"
)
_CANCEL_ONE = (
    f"UPDATE delivery SET status = {CANCELED}, fence = ?, due_at = NULL, lease_until = NULL, completed_at = ? "
    "WHERE id = ?"
)
_SETTLE = (
    "UPDATE delivery SET status = ?, due_at = ?, lease_until = NULL, failure_count = failure_count + ?, "
    "last_outcome = ?, last_status_code = ?, completed_at = ?, dead_at = ? "
    f"WHERE id = ? AND fence = ? AND status = {SENDING}"
)
_EVENT = (
    "INSERT INTO event (id, organization_id, type, occurred_at, received_at, body, data_offset, is_test) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_DELIVERY = (
    "INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, status, trigger, replay_of_id, "
    "attempt_count, failure_count, due_at, lease_until, fence, created_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)"
)
_REPEAT = (
    "INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, replay_id, replay_of_id, status, "
    "trigger, attempt_count, failure_count, due_at, fence, created_at) "
    f"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, {PENDING}, {int(DeliveryTrigger.REPLAY)}, 0, 0, ?8, 0, ?8)"
)
_ATTEMPT = f"INSERT INTO attempt ({ATTEMPT_COLUMNS}) VALUES ({', '.join('?' * 16)})"
_KEY = """
INSERT INTO idempotency (organization_id, operation, key, request_digest, result_id, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (organization_id, operation, key) DO UPDATE
  SET request_digest = excluded.request_digest, result_id = excluded.result_id, created_at = excluded.created_at
  WHERE idempotency.created_at <= ?6 - ?7
RETURNING 1
"""
_ROLLUP = rollup.upsert(f"VALUES ({', '.join('?' * len(rollup.COLUMNS_IN_ORDER))})", "MAX")
_HEALTH = health.upsert("VALUES (?, ?, ?, ?, ?, ?)")
_TALLY = tally.upsert("VALUES (?, ?, ?)")
_COUNT_ENDED = re.sub(r"\$(\d)", r"?\1", COUNT_ENDED)
_TAKE_GATE = "SELECT tokens, refilled_at FROM webhook_gate WHERE webhook_id = ?"
_PUT_GATE = "INSERT OR REPLACE INTO webhook_gate (webhook_id, tokens, refilled_at) VALUES (?, ?, ?)"
_REFUND = "UPDATE webhook_gate SET tokens = tokens + ? WHERE webhook_id = ?"


class _Undo(Exception):
    """Rolls the transaction back and carries its answer out."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer


class SqliteLedger:
    """The ledger on SQLite 3.35 or newer (for RETURNING)."""

    def __init__(self, client: SqliteClient) -> None:
        self._client = client

    async def _run(self, work: Callable[[sqlite3.Connection], T], within: BaseDBAsyncClient | None = None) -> T:
        async with (within or self._client).acquire_connection() as connection:
            # aiosqlite has no public way to run a function in its thread; it is pinned, and this one is two years old.
            if within is not None:
                return await connection._execute(work, connection._conn)  # type: ignore[no-any-return]
            return await connection._execute(_transact, connection._conn, work)  # type: ignore[no-any-return]

    async def ping(self) -> None:
        await self._run(lambda db: db.execute("SELECT 1").fetchone())

    async def versions(self, organizations: Sequence[UUID]) -> dict[UUID, int]:
        return await self._run(lambda db: _versions(db, organizations))

    async def wishes(self, organization_id: UUID) -> list[tuple[UUID, str]]:
        def work(db: sqlite3.Connection) -> list[tuple[UUID, str]]:
            rows = db.execute(
                "SELECT id, event_patterns FROM webhook "
                "WHERE organization_id = ? AND deleted_at IS NULL AND status <> 'DISABLED'",
                [str(organization_id)],
            )
            return [(UUID(found), patterns) for found, patterns in rows]

        return await self._run(work)

    async def earlier_uses(
        self, claims: Sequence[IdempotencyClaim], now: int, lifetime_ms: int
    ) -> dict[tuple[UUID, str, str], EarlierUse]:
        def work(db: sqlite3.Connection) -> dict[tuple[UUID, str, str], EarlierUse]:
            found = {}
            for claim in claims:
                row = db.execute(
                    "SELECT request_digest, result_id FROM idempotency "
                    "WHERE organization_id = ? AND operation = ? AND key = ? AND created_at > ?",
                    (str(claim.organization_id), claim.operation, claim.key, now - lifetime_ms),
                ).fetchone()
                if row:
                    found[claim.organization_id, claim.operation, claim.key] = EarlierUse(row[0], UUID(row[1]))
            return found

        return await self._run(work) if claims else {}

    async def append(
        self,
        events: Sequence[NewEvent],
        claims: Sequence[IdempotencyClaim],
        now: int,
        lifetime_ms: int,
        versions: Mapping[UUID, int] = NOTHING,
    ) -> set[tuple[UUID, str, str]]:
        def work(db: sqlite3.Connection) -> set[tuple[UUID, str, str]]:
            if _versions(db, list(versions)) != versions:
                raise Outdated
            lost = set()
            for claim in claims:
                values = (str(claim.organization_id), claim.operation, claim.key, claim.request_digest)
                if not db.execute(_KEY, (*values, str(claim.result_id), now, lifetime_ms)).fetchall():
                    lost.add((claim.organization_id, claim.operation, claim.key))
            if lost:
                raise _Undo(lost)
            db.executemany(_EVENT, (_event_row(event, is_test=False) for event in events))
            db.executemany(
                _DELIVERY,
                (
                    (
                        str(d.id), str(e.organization_id), str(d.webhook_id), str(e.id), e.type, PENDING,
                        int(DeliveryTrigger.EVENT), d.replay_of_id and str(d.replay_of_id), 0, e.received_at, None, 0,
                        e.received_at,
                    )
                    for e in events
                    for d in e.deliveries
                ),
            )  # fmt: skip
            return set()

        return await self._run(work)

    async def append_test(
        self, event: NewEvent, delivery_id: UUID, webhook_id: UUID, webhook_revision: int, lease_until: int
    ) -> Claimed:
        now = event.received_at

        def work(db: sqlite3.Connection) -> None:
            db.execute(_EVENT, _event_row(event, is_test=True))
            db.execute(
                _DELIVERY,
                (
                    str(delivery_id), str(event.organization_id), str(webhook_id), str(event.id), event.type, SENDING,
                    int(DeliveryTrigger.TEST), None, 1, now, lease_until, 1, now,
                ),
            )  # fmt: skip

        await self._run(work)
        return Claimed(
            delivery_id, event.organization_id, webhook_id, webhook_revision, event.id, DeliveryTrigger.TEST,
            number=1, failures=0, fence=1, created_at=now,
        )  # fmt: skip

    async def lanes(self) -> list[WaitingLane]:
        def work(db: sqlite3.Connection) -> list[WaitingLane]:
            rows = db.execute(
                "SELECT webhook_id, organization_id, MIN(due_at), FALSE FROM delivery "
                "WHERE due_at IS NOT NULL AND replay_id IS NULL GROUP BY webhook_id UNION ALL "
                "SELECT webhook_id, organization_id, MIN(due_at), TRUE FROM delivery "
                "WHERE due_at IS NOT NULL AND replay_id IS NOT NULL GROUP BY webhook_id"
            )
            return [WaitingLane(UUID(row[0]), UUID(row[1]), row[2], bool(row[3])) for row in rows]

        return await self._run(work)

    async def claim(
        self, now: int, wanted: Mapping[UUID, int], replayed: Mapping[UUID, int] = NOTHING
    ) -> list[Claimed]:
        def work(db: sqlite3.Connection) -> list[Claimed]:
            taken, fence = [], new_fence()
            rows = _due(db, _DUE, now, wanted)
            if left := left_for_replays((UUID(row["webhook_id"]) for row in rows), wanted, replayed):
                rows += _due(db, _DUE_REPLAYED, now, left)
            for row in rows:
                claimed = _claimed(row)
                if row["status"] == SENDING:
                    _write_attempts(db, [(claimed, _abandoned(row))])
                if row["webhook_status"] == "ENABLED" and row["webhook_deleted_at"] is None:
                    db.execute(_TAKE, (fence, now + row["timeout_ms"] + LEASE_SLACK_MS, row["id"]))
                    claimed.number += 1
                    claimed.fence = fence
                    taken.append(claimed)
                elif row["webhook_status"] == "PAUSED" and row["webhook_deleted_at"] is None:
                    db.execute(_PARK_ONE, (fence, row["id"]))
                else:
                    db.execute(_CANCEL_ONE, (fence, now, row["id"]))
                    _count_canceled(db, [(claimed.webhook_id, claimed.trigger)], now)
            return taken

        return await self._run(work)

    async def events(self, ids: Sequence[UUID]) -> dict[UUID, StoredEvent]:
        def work(db: sqlite3.Connection) -> dict[UUID, StoredEvent]:
            rows = db.execute(
                f"SELECT id, type, body, data_offset FROM event WHERE id IN ({_marks(ids)})",
                [str(i) for i in ids],
            )
            return {e.id: e for e in (StoredEvent(UUID(row[0]), *row[1:]) for row in rows)}

        return await self._run(work)

    async def delivery_counts(self, events: Sequence[UUID]) -> dict[UUID, int]:
        def work(db: sqlite3.Connection) -> dict[UUID, int]:
            rows = db.execute(
                f"SELECT event_id, count(*) FROM delivery WHERE event_id IN ({_marks(events)}) AND trigger = ? "
                "GROUP BY event_id",
                [*(str(e) for e in events), int(DeliveryTrigger.EVENT)],
            )
            return {UUID(event_id): count for event_id, count in rows}

        return await self._run(work)

    async def settle(self, settlements: Sequence[Settlement], now: int, failing_limit_ms: int) -> Settled:
        def work(db: sqlite3.Connection) -> Settled:
            taken = [s for s in settlements if _settle_one(db, s, now)]
            _write_attempts(db, [(s.claimed, s.attempt) for s in taken])
            _tally(db, ((s.claimed.webhook_id, s.status) for s in taken if s.due_at is None))
            _add(db, rollup.increments(taken), now)
            db.executemany(_COUNT_ENDED, [(str(replay), *counts) for replay, *counts in replay_counts(taken)])
            reasons = health.reasons(taken)
            for webhook_id, change in health.changes(taken, now).items():
                row = db.execute(_HEALTH, (str(webhook_id), *health.row_of(webhook_id, change)[1:])).fetchall()[0]
                if health.has_failed_too_long(row[1], row[2], failing_limit_ms):
                    reasons.setdefault(webhook_id, DisabledReason.CONSECUTIVE_FAILURES)
            disabled = [item for item in sorted(reasons.items()) if _disable(db, *item, now)]
            return Settled({s.claimed.id for s in taken}, disabled)

        return await self._run(work)

    async def release(self, claimed: Sequence[Claimed], now: int) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.executemany(
                f"UPDATE delivery SET status = CASE WHEN failure_count > 0 THEN {RETRYING} ELSE {PENDING} END, "
                "due_at = ?, lease_until = NULL, attempt_count = attempt_count - 1 "
                f"WHERE id = ? AND fence = ? AND status = {SENDING}",
                [(now, str(c.id), c.fence) for c in claimed],
            )

        await self._run(work)

    async def park(self, webhook_id: UUID, *, within: BaseDBAsyncClient | None = None) -> int:
        return await self._count(
            within,
            f"UPDATE delivery SET due_at = NULL WHERE webhook_id = ? AND completed_at IS NULL "
            f"AND status IN ({PENDING}, {RETRYING}) AND due_at IS NOT NULL",
            str(webhook_id),
        )

    async def unpark(self, webhook_id: UUID, now: int, *, within: BaseDBAsyncClient | None = None) -> int:
        return await self._count(
            within,
            f"UPDATE delivery SET due_at = ?2 WHERE webhook_id = ?1 AND completed_at IS NULL "
            f"AND status IN ({PENDING}, {RETRYING}) AND due_at IS NULL "
            "AND EXISTS (SELECT 1 FROM webhook WHERE id = ?1 AND status = 'ENABLED')",
            str(webhook_id),
            now,
        )

    async def cancel_waiting(self, webhook_id: UUID, now: int, *, within: BaseDBAsyncClient | None = None) -> int:
        return await self._run(lambda db: _cancel_waiting(db, "webhook_id", webhook_id, now), within)

    async def append_repeats(
        self, repeats: Sequence[Repeat], now: int, *, within: BaseDBAsyncClient | None = None
    ) -> None:
        rows = [
            (
                str(r.id), str(r.organization_id), str(r.webhook_id), str(r.event_id), r.event_type, str(r.replay_id),
                r.replay_of_id and str(r.replay_of_id), now,
            )
            for r in repeats
        ]  # fmt: skip
        await self._run(lambda db: db.executemany(_REPEAT, rows).rowcount, within)

    async def cancel_replayed(self, replay_id: UUID, now: int, *, within: BaseDBAsyncClient | None = None) -> int:
        return await self._run(lambda db: _cancel_waiting(db, "replay_id", replay_id, now), within)

    async def disable(self, webhook_id: UUID, reason: DisabledReason, now: int) -> bool:
        return await self._run(lambda db: _disable(db, webhook_id, reason, now))

    async def admit(self, wishes: Mapping[UUID, gate.Wish], now: int) -> dict[UUID, int]:
        def work(db: sqlite3.Connection) -> dict[UUID, int]:
            admitted: dict[UUID, int] = {}
            for webhook_id, wish in wishes.items():
                row = db.execute(_TAKE_GATE, (str(webhook_id),)).fetchone()
                admitted[webhook_id], bucket = gate.admit(gate.Bucket(*row) if row else None, wish, now)
                db.execute(_PUT_GATE, (str(webhook_id), bucket.tokens, bucket.refilled_at))
            return admitted

        return await self._run(work)

    async def refund(self, unused: Mapping[UUID, int]) -> None:
        rows = [(tokens, str(webhook_id)) for webhook_id, tokens in unused.items()]
        await self._run(lambda db: db.executemany(_REFUND, rows).rowcount)

    async def sweep(self, now: int) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM idempotency WHERE created_at < ?", (now - 48 * rollup.HOUR_MS,))
            kept = ((rollup.MINUTE_MS, rollup.MINUTES_KEPT_MS), (rollup.HOUR_MS, rollup.HOURS_KEPT_MS))
            db.executemany(
                "DELETE FROM delivery_rollup WHERE resolution_ms = ? AND start < ?",
                [(resolution, now - age) for resolution, age in kept],
            )

        await self._run(work)

    async def _count(self, within: BaseDBAsyncClient | None, sql: str, *parameters: object) -> int:
        return await self._run(lambda db: db.execute(sql, parameters).rowcount, within)


def _versions(db: sqlite3.Connection, organizations: Sequence[UUID]) -> dict[UUID, int]:
    rows = db.execute(
        f"SELECT id, version FROM organization WHERE id IN ({_marks(organizations)}) AND deleted_at IS NULL",
        [str(o) for o in organizations],
    )
    return {UUID(found): version for found, version in rows}


def _transact(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        answer = work(db)
    except _Undo as undo:
        db.execute("ROLLBACK")
        return undo.answer  # type: ignore[no-any-return]
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
    return answer


def _due(db: sqlite3.Connection, sql: str, now: int, wanted: Mapping[UUID, int]) -> list[dict[str, Any]]:
    rows = []
    for webhook_id, most in wanted.items():
        cursor = db.execute(sql, (now, str(webhook_id), most))
        names = [column[0] for column in cursor.description]
        rows += [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    return rows


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _event_row(event: NewEvent, *, is_test: bool) -> tuple[object, ...]:
    return (
        str(event.id), str(event.organization_id), event.type, event.occurred_at, event.received_at, event.body,
        event.data_offset, is_test,
    )  # fmt: skip


def _claimed(row: dict[str, Any]) -> Claimed:
    """The row as it stood before the claim."""
    return Claimed(
        UUID(row["id"]), UUID(row["organization_id"]), UUID(row["webhook_id"]), row["webhook_revision"],
        UUID(row["event_id"]), DeliveryTrigger(row["trigger"]), row["attempt_count"], row["failure_count"],
        row["fence"], row["created_at"], UUID(row["replay_id"]) if row["replay_id"] else None,
    )  # fmt: skip


def _abandoned(row: dict[str, Any]) -> AttemptRecord:
    """The record of the attempt whose lease ran out. It began when that lease was taken."""
    lease_ms = row["timeout_ms"] + LEASE_SLACK_MS
    return AttemptRecord(
        id=new_id(),
        number=row["attempt_count"],
        outcome=AttemptOutcome.ABANDONED,
        error="the worker stopped before the result was known",
        started_at=row["lease_until"] - lease_ms,
        duration_us=lease_ms * 1000,
    )


def _settle_one(db: sqlite3.Connection, s: Settlement, now: int) -> bool:
    parameters = (
        int(s.status), s.due_at, s.attempt.outcome is not AttemptOutcome.SUCCESS, int(s.attempt.outcome),
        s.attempt.response_status, now if s.due_at is None else None,
        now if s.status is DeliveryStatus.DEAD_LETTERED else None, str(s.claimed.id), s.claimed.fence,
    )  # fmt: skip
    return db.execute(_SETTLE, parameters).rowcount == 1


def _write_attempts(db: sqlite3.Connection, attempts: Iterable[tuple[Claimed, AttemptRecord]]) -> None:
    db.executemany(
        _ATTEMPT,
        (
            (
                str(a.id), str(c.organization_id), str(c.id), str(c.webhook_id), a.number, int(a.outcome), a.error,
                a.started_at, a.duration_us, a.request_url, a.request_headers, a.request_bytes, a.response_status,
                a.response_headers, a.response_excerpt, a.response_truncated,
            )
            for c, a in attempts
        ),
    )  # fmt: skip


def _add(db: sqlite3.Connection, rows: dict[UUID, rollup.Increment], now: int) -> None:
    places = list(rollup.slices(now))
    db.executemany(
        _ROLLUP,
        (
            (str(webhook_id), *place, *row.counters(), *row.histogram)
            for webhook_id, row in rows.items()
            for place in places
        ),
    )


def _cancel_waiting(db: sqlite3.Connection, column: str, value: UUID, now: int) -> int:
    canceled = db.execute(
        f"UPDATE delivery SET status = {CANCELED}, due_at = NULL, completed_at = ? "
        f"WHERE {column} = ? AND completed_at IS NULL AND status IN ({PENDING}, {RETRYING}) "
        "RETURNING webhook_id, trigger",
        (now, str(value)),
    ).fetchall()
    _count_canceled(db, [(UUID(found), trigger) for found, trigger in canceled], now)
    return len(canceled)


def _count_canceled(db: sqlite3.Connection, rows: Sequence[tuple[UUID, int]], now: int) -> None:
    """Counts them, by webhook and trigger."""
    _tally(db, ((webhook_id, CANCELED) for webhook_id, _ in rows))
    counted = Counter(webhook_id for webhook_id, trigger in rows if trigger != DeliveryTrigger.TEST)
    _add(db, rollup.cancellations(counted), now)


def _tally(db: sqlite3.Connection, ended: Iterable[tuple[UUID, int]]) -> None:
    db.executemany(_TALLY, [(str(webhook_id), status, n) for webhook_id, status, n in tally.of(ended)])


def _disable(db: sqlite3.Connection, webhook_id: UUID, reason: DisabledReason, now: int) -> bool:
    rows = db.execute(
        "UPDATE webhook SET status = 'DISABLED', disabled_reason = ?2, disabled_at = ?3, updated_at = ?3, "
        "revision = revision + 1 WHERE id = ?1 AND status <> 'DISABLED' AND deleted_at IS NULL "
        "RETURNING organization_id",
        (str(webhook_id), str(reason), now),
    ).fetchall()
    if not rows:
        return False
    db.execute("UPDATE organization SET version = version + 1 WHERE id = ?", rows[0])
    _cancel_waiting(db, "webhook_id", webhook_id, now)
    return True
