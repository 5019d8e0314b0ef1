"""A delivery: one event for one webhook. It has the state.

    PENDING ──claim──► SENDING ──2xx──► SUCCEEDED
       ▲                  │ ├──later──► RETRYING ──claim──► SENDING
       │ lease ran out    │ └──no more─► DEAD_LETTERED
       └──────────────────┘        (PENDING and RETRYING may also become CANCELED)

Only the ledger (`models/ledger.py`) writes `status`, and each of its transitions is one guarded statement.
"""

from enum import IntEnum

from tortoise import fields
from tortoise.models import Model

from models.attempt import AttemptOutcome
from models.moment import MomentField


class DeliveryStatus(IntEnum):
    """Where a delivery stands. Stored as its number: never renumber."""

    PENDING = 1
    """Waits for its first attempt."""
    SENDING = 2
    """A worker holds it under a lease; when the lease runs out, the next claim takes it."""
    RETRYING = 3
    """Failed at least once and waits for `due_at`."""
    SUCCEEDED = 4
    """The receiver answered 2xx."""
    DEAD_LETTERED = 5
    """Given up: no attempts left, or the receiver is gone."""
    CANCELED = 6
    """Its webhook was deleted or disabled before it was delivered."""


OPEN = (DeliveryStatus.PENDING, DeliveryStatus.SENDING, DeliveryStatus.RETRYING)
"""The states from which a delivery may still be delivered."""


class DeliveryTrigger(IntEnum):
    """Why a delivery was made. Stored as its number: never renumber."""

    EVENT = 1
    """The event was published."""
    TEST = 2
    """Somebody called testWebhook; not counted in statistics or health."""
    REPLAY = 3
    """Somebody asked for it again."""


class Delivery(Model):
    """One event on its way to one webhook."""

    id = fields.UUIDField(primary_key=True)
    organization_id = fields.UUIDField()
    webhook_id = fields.UUIDField()
    event_id = fields.UUIDField()
    event_type = fields.CharField(max_length=200)
    status = fields.IntEnumField(DeliveryStatus, default=DeliveryStatus.PENDING)
    trigger = fields.IntEnumField(DeliveryTrigger, default=DeliveryTrigger.EVENT)
    replay_of_id = fields.UUIDField(null=True)
    replay_id = fields.UUIDField(null=True, description="The replay that asked for it.")
    attempt_count = fields.SmallIntField(default=0, description="Attempts begun.")
    failure_count = fields.SmallIntField(
        default=0, description="Attempts known to have failed, counts against max_attempts."
    )
    due_at = MomentField(null=True, description="When it may be claimed. Null: parked (webhook PAUSED) or finished.")
    lease_until = MomentField(null=True, description="Until when the claim holds. Null: not claimed.")
    fence = fields.IntField(
        default=0, description="Fencing token: another with each claim, a result under an old one is refused."
    )
    last_outcome = fields.IntEnumField(AttemptOutcome, null=True)
    last_status_code = fields.SmallIntField(null=True)
    created_at = MomentField()
    completed_at = MomentField(null=True)
    dead_at = MomentField(null=True, description="When it was DEAD_LETTERED. Null: it was not.")

    class Meta:
        table = "delivery"
        indexes = (("organization_id", "id"), ("webhook_id", "id"), ("event_id",))
