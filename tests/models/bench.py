"""What the tests of the ledger work with: an organization, webhooks, deliveries, and a clock that stands still."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tortoise.connection import get_connection

from models.attempt import AttemptOutcome
from models.delivery import Delivery, DeliveryStatus
from models.dialect import in_dialect
from models.ids import new_id
from models.ledger import AttemptRecord, Claimed, Ledger, NewDelivery, NewEvent, Settlement
from models.moment import from_ms
from models.organization import Organization
from models.webhook import Webhook
from tests.houses import ManualClock

TIMEOUT_MS = 15_000
LEASE_MS = 30_000
"""The webhook's timeout and the slack of `models.ledger.LEASE_SLACK_MS`."""
FIVE_DAYS_MS = 5 * 24 * 3_600_000
BODY = b'{"type":"order.created","timestamp":"2026-11-21T00:00:00.000Z","data":{"id":42}}'
DATA_OFFSET = BODY.index(b'{"id"')


@dataclass
class Bench:
    """A ledger with one organization."""

    ledger: Ledger
    clock: ManualClock = field(default_factory=ManualClock)
    organization_id: UUID = field(default_factory=new_id)

    async def open(self) -> "Bench":
        await Organization.create(id=self.organization_id, name="Acme", created_at=from_ms(self.clock()))
        return self

    async def webhook(self, **fields: Any) -> UUID:
        """A webhook, by default ENABLED, wanting everything, with a timeout of 15 s."""
        moment = from_ms(self.clock())
        row = await Webhook.create(
            **{
                "id": new_id(),
                "organization_id": self.organization_id,
                "url": "https://example.com/hook",
                "event_patterns": ["*"],
                "api_version": "2026-04-01",
                "signature_profiles": [],
                "timeout_ms": TIMEOUT_MS,
                "max_attempts": 10,
                "retry_schedule": [5],
                "secret_hint": "aSw=",
                "secret_created_at": moment,
                "created_at": moment,
                "updated_at": moment,
                **fields,
            }
        )
        return row.id

    async def set_webhook(self, webhook_id: UUID, **fields: Any) -> None:
        await Webhook.filter(id=webhook_id).update(**fields)

    def event(self, webhooks: Sequence[UUID] = (), **fields: Any) -> NewEvent:
        """An event with a delivery for each of these webhooks, not written yet."""
        now = self.clock()
        given = {"id": new_id(), "occurred_at": now - 1000, "received_at": now, **fields}
        return NewEvent(
            organization_id=self.organization_id,
            type="order.created",
            body=BODY,
            data_offset=DATA_OFFSET,
            deliveries=[NewDelivery(new_id(), webhook_id) for webhook_id in webhooks],
            **given,
        )

    async def publish(self, *webhooks: UUID, count: int = 1) -> list[UUID]:
        """Writes events, each with a delivery for each of these webhooks; answers the deliveries' ids."""
        events = [self.event(webhooks) for _ in range(count)]
        assert await self.ledger.append(events, [], self.clock(), 1000) == set()
        return [delivery.id for event in events for delivery in event.deliveries]

    async def claim(self, of_each: int = 100) -> list[Claimed]:
        """Claims up to so many of each webhook that has something waiting."""
        lanes = await self.ledger.lanes()
        replayed = {lane.webhook_id: of_each for lane in lanes if lane.is_replayed}
        return await self.ledger.claim(self.clock(), {lane.webhook_id: of_each for lane in lanes}, replayed)

    async def claim_one(self) -> Claimed:
        [claimed] = await self.claim()
        return claimed

    def settlement(
        self, claimed: Claimed, outcome: AttemptOutcome = AttemptOutcome.SUCCESS, *, retry_in: int | None = None,
        gone: bool = False, duration_us: int = 12_345,
    ) -> Settlement:  # fmt: skip
        """What became of a claim: SUCCEEDED; or else RETRYING in so many ms, or DEAD_LETTERED."""
        ok = outcome is AttemptOutcome.SUCCESS
        if ok:
            status = DeliveryStatus.SUCCEEDED
        else:
            status = DeliveryStatus.DEAD_LETTERED if retry_in is None else DeliveryStatus.RETRYING
        attempt = AttemptRecord(
            id=new_id(),
            number=claimed.number,
            outcome=outcome,
            error=None if ok else "the receiver answered 500",
            started_at=self.clock(),
            duration_us=duration_us,
            request_url="https://example.com/hook",
            request_headers='[["content-type","application/json"]]',
            request_bytes=len(BODY),
            response_status=200 if ok else 410 if gone else 500,
            response_headers='[["server","nginx"]]',
            response_excerpt=b"\xff\x00ok",
            response_truncated=True,
        )
        due_at = self.clock() + retry_in if retry_in is not None and not ok else None
        return Settlement(claimed, status, due_at, attempt, gone)

    async def settle(self, *settlements: Settlement, failing_limit_ms: int = FIVE_DAYS_MS) -> set[UUID]:
        """Answers the deliveries whose result was taken."""
        settled = await self.ledger.settle(settlements, self.clock(), failing_limit_ms)
        return settled.accepted

    async def counters(self, webhook_id: UUID, resolution_ms: int = 60_000) -> dict[str, int]:
        """A webhook's statistics: all slices of a resolution, added up; zeros left out."""
        rows = await select("SELECT * FROM delivery_rollup WHERE webhook_id = $1", webhook_id)
        rows = [row for row in rows if row["resolution_ms"] == resolution_ms]
        names = set(rows[0] if rows else ()) - {"webhook_id", "resolution_ms", "start", "max_us"}
        sums = {name: sum(row[name] for row in rows) for name in names}
        return {name: n for name, n in sums.items() if n}


async def select(sql: str, *values: Any) -> list[dict[str, Any]]:
    """Rows of any table, by SQL with `$1` parameters."""
    connection = get_connection("default")
    rows: list[dict[str, Any]] = await connection.execute_query_dict(*in_dialect(connection, sql, *values))
    return rows


async def states(ids: Iterable[UUID]) -> list[DeliveryStatus]:
    """The states of these deliveries, in their order."""
    rows = {row.id: row.status for row in await Delivery.filter(id__in=list(ids))}
    return [rows[one] for one in ids]
