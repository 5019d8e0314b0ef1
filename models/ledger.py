"""The hot path: events in, deliveries out. Few statements, each shared by a batch, the same on both databases.

A delivery's `status` is written here and nowhere else. Every transition is a method, made of one guarded statement
that says whether it won; the statements are in `ledger_postgres` and `ledger_sqlite`, which agree in all they do.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient

from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.gate import Wish
from models.webhook import DisabledReason

NOTHING: Mapping[UUID, int] = MappingProxyType({})
LEASE_SLACK_MS = 15_000
"""A lease lasts the webhook's timeout and this, so that a settling which waits for the database is in time."""

ATTEMPT_COLUMNS = (
    "id, organization_id, delivery_id, webhook_id, number, outcome, error, started_at, duration_us, request_url, "
    "request_headers, request_bytes, response_status, response_headers, response_excerpt, response_truncated"
)


@dataclass(slots=True)
class NewDelivery:
    """A delivery to be written with its event."""

    id: UUID
    webhook_id: UUID
    replay_of_id: UUID | None = None


@dataclass(slots=True)
class NewEvent:
    """An event to be written with its deliveries. Moments are milliseconds since 1970."""

    id: UUID
    organization_id: UUID
    type: str
    occurred_at: int
    received_at: int
    body: bytes
    data_offset: int
    deliveries: list[NewDelivery] = field(default_factory=list)


@dataclass(slots=True)
class Repeat:
    """A delivery that a replay makes."""

    id: UUID
    organization_id: UUID
    webhook_id: UUID
    event_id: UUID
    event_type: str
    replay_id: UUID
    replay_of_id: UUID | None


@dataclass(slots=True)
class IdempotencyClaim:
    """A caller's own key for one operation, and what its first use made."""

    organization_id: UUID
    operation: str
    key: str
    request_digest: bytes
    result_id: UUID


@dataclass(slots=True)
class EarlierUse:
    """What an idempotency key had been used for."""

    request_digest: bytes
    result_id: UUID


@dataclass(slots=True)
class WaitingLane:
    """A webhook with something to send."""

    webhook_id: UUID
    organization_id: UUID
    due_at: int
    is_replayed: bool = False
    """What is due then was made by a replay. A webhook may be named twice, with and without."""


@dataclass(slots=True)
class Claimed:
    """A delivery that this worker now holds, until the lease runs out."""

    id: UUID
    organization_id: UUID
    webhook_id: UUID
    webhook_revision: int
    event_id: UUID
    trigger: DeliveryTrigger
    number: int
    """The number of the attempt now begun; 1 for the first."""
    failures: int
    """Attempts known to have failed before."""
    fence: int
    """Of this claim alone: a result is taken only under the fence of the latest."""
    created_at: int
    replay_id: UUID | None = None


@dataclass(slots=True)
class StoredEvent:
    """What of an event is needed to send it."""

    id: UUID
    type: str
    body: bytes
    data_offset: int


@dataclass(slots=True)
class AttemptRecord:
    """One HTTP request as it will be kept. `headers` are JSON lists of [name, value]."""

    id: UUID
    number: int
    outcome: AttemptOutcome
    error: str | None
    started_at: int
    duration_us: int
    request_url: str | None = None
    request_headers: str | None = None
    request_bytes: int = 0
    response_status: int | None = None
    response_headers: str | None = None
    response_excerpt: bytes | None = None
    response_truncated: bool = False


@dataclass(slots=True)
class Settlement:
    """What became of a claimed delivery."""

    claimed: Claimed
    status: DeliveryStatus
    """SUCCEEDED, RETRYING or DEAD_LETTERED."""
    due_at: int | None
    """For RETRYING: when, in milliseconds since 1970."""
    attempt: AttemptRecord
    gone: bool = False
    """The receiver answered 410: its webhook is to be disabled."""
    exhausted: bool = False
    """It failed for the last time, and its webhook is one that is to be disabled then."""


@dataclass(slots=True)
class Settled:
    """What a settling did."""

    accepted: set[UUID]
    """Deliveries whose result was taken; any other was claimed anew by somebody else meanwhile."""
    disabled: list[tuple[UUID, DisabledReason]]
    """Webhooks that this settling turned off."""


def new_fence() -> int:
    """A fencing token for what is claimed now: 30 random bits.

    Counting would give a token again after a claim that the database has forgotten, and what is sent under either
    would be taken for the other's.
    """
    return random.getrandbits(30)


def left_for_replays(
    claimed: Iterable[UUID], wanted: Mapping[UUID, int], replayed: Mapping[UUID, int]
) -> dict[UUID, int]:
    """How many more to claim of each webhook, from its replays, when these were claimed of what is new."""
    found = Counter(claimed)
    left = {i: min(wanted.get(i, 0) - found[i], most) for i, most in replayed.items()}
    return {i: n for i, n in left.items() if n > 0}


def replay_counts(settlements: Iterable[Settlement]) -> list[tuple[UUID, int, int]]:
    """Each replay of which deliveries have ended, how many SUCCEEDED, and how many did not; in one order."""
    ended: dict[UUID, Counter[DeliveryStatus]] = {}
    for settlement in settlements:
        replay_id = settlement.claimed.replay_id
        if replay_id is not None and settlement.status is not DeliveryStatus.RETRYING:
            ended.setdefault(replay_id, Counter())[settlement.status] += 1
    return [(i, n[DeliveryStatus.SUCCEEDED], n[DeliveryStatus.DEAD_LETTERED]) for i, n in sorted(ended.items())]


COUNT_ENDED = "UPDATE replay SET succeeded = succeeded + $2, failed = failed + $3 WHERE id = $1"
"""Parameters: what `replay_counts` says."""


class Outdated(Exception):
    """An organization has changed, or gone, since its version was read; nothing was written."""


class Ledger(Protocol):
    """What the hot path asks of a database. Moments are milliseconds since 1970, UTC."""

    async def ping(self) -> None:
        """Asks the database for a sign of life; raises whatever is wrong with it."""
        ...

    async def versions(self, organizations: Sequence[UUID]) -> dict[UUID, int]:
        """Each organization's version; deleted and unknown ones are absent."""
        ...

    async def wishes(self, organization_id: UUID) -> list[tuple[UUID, str]]:
        """The webhooks for which deliveries are made (not deleted, not DISABLED), each with its patterns as JSON."""
        ...

    async def earlier_uses(
        self, claims: Sequence[IdempotencyClaim], now: int, lifetime_ms: int
    ) -> dict[tuple[UUID, str, str], EarlierUse]:
        """Which idempotency keys have been used within their lifetime. Writes nothing."""
        ...

    async def append(
        self,
        events: Sequence[NewEvent],
        claims: Sequence[IdempotencyClaim],
        now: int,
        lifetime_ms: int,
        versions: Mapping[UUID, int] = NOTHING,
    ) -> set[tuple[UUID, str, str]]:
        """Writes events, their deliveries (due now) and idempotency keys in one transaction.

        Answers with the keys (organization, operation, key) that somebody else took first. If there is any, nothing
        at all has been written, and `earlier_uses` now tells what they stand for.

        Raises Outdated, having written nothing, unless each organization in `versions` has that version.
        """
        ...

    async def append_test(
        self, event: NewEvent, delivery_id: UUID, webhook_id: UUID, webhook_revision: int, lease_until: int
    ) -> Claimed:
        """Writes a test event and its one delivery, which is born claimed by the caller."""
        ...

    async def lanes(self) -> list[WaitingLane]:
        """Every webhook with deliveries that are to be sent, and when the first of them is due.

        One that is being sent counts with the time at which it was due.
        """
        ...

    async def claim(
        self, now: int, wanted: Mapping[UUID, int], replayed: Mapping[UUID, int] = NOTHING
    ) -> list[Claimed]:
        """Takes up to so many due deliveries of each webhook, the longest due first, each under a lease.

        What replays made comes behind everything else, and at most as many as `replayed` says.

        Finds retries that have come due and deliveries whose lease ran out; for the latter an ABANDONED attempt is
        recorded. Those of a PAUSED webhook are parked instead, those of a DISABLED or deleted one canceled.
        """
        ...

    async def admit(self, wishes: Mapping[UUID, Wish], now: int) -> dict[UUID, int]:
        """How many requests each webhook's rate allows now, of those wanted; spent, for all workers together.

        Token buckets (`models.gate`).
        """
        ...

    async def refund(self, unused: Mapping[UUID, int]) -> None:
        """Gives back admissions for which there was nothing to send, by webhook."""
        ...

    async def events(self, ids: Sequence[UUID]) -> dict[UUID, StoredEvent]:
        """What is needed to send these events."""
        ...

    async def delivery_counts(self, events: Sequence[UUID]) -> dict[UUID, int]:
        """How many deliveries each event was given when it was published; those with none are absent."""
        ...

    async def settle(self, settlements: Sequence[Settlement], now: int, failing_limit_ms: int) -> Settled:
        """Writes results: deliveries, attempts, health, statistics, and disablements, in one transaction.

        A result under an old fencing token is refused and leaves nothing behind. A webhook is disabled when a
        receiver said 410, when a delivery of one that is `disable_when_exhausted` has failed for the last time, or when
        its failures, with no success between, span at least `failing_limit_ms`.
        """
        ...

    async def release(self, claimed: Sequence[Claimed], now: int) -> None:
        """Gives claimed deliveries back unsent, due at once; the attempt that was begun never was."""
        ...

    async def park(self, webhook_id: UUID, *, within: BaseDBAsyncClient | None = None) -> int:
        """Holds back a paused webhook's waiting deliveries. Answers how many.

        `within` (here and below): the transaction that changes the webhook, so that neither stands without the other.
        """
        ...

    async def unpark(self, webhook_id: UUID, now: int, *, within: BaseDBAsyncClient | None = None) -> int:
        """Makes the parked deliveries of an enabled webhook due. Answers how many."""
        ...

    async def cancel_waiting(self, webhook_id: UUID, now: int, *, within: BaseDBAsyncClient | None = None) -> int:
        """Cancels what waits for a webhook that was deleted or disabled. Answers how many."""
        ...

    async def disable(self, webhook_id: UUID, reason: DisabledReason, now: int) -> bool:
        """Turns a webhook off and cancels what waits. False when it was off or deleted already."""
        ...

    async def append_repeats(
        self, repeats: Sequence[Repeat], now: int, *, within: BaseDBAsyncClient | None = None
    ) -> None:
        """Writes deliveries of events that are there already, due now. Raises when a replay has one of an event."""
        ...

    async def cancel_replayed(self, replay_id: UUID, now: int, *, within: BaseDBAsyncClient | None = None) -> int:
        """Cancels what waits of a replay. Answers how many."""
        ...

    async def sweep(self, now: int) -> None:
        """Forgets expired idempotency keys and minute-wise statistics that no window reads any more."""
        ...
