"""Replays, and what their deliveries belong to. What a replay made waits behind what is new: each has its own index.

On a large table the indexes of `delivery` take a moment to build: they hold only what is open, or of replays.
"""

from orjson import loads
from tortoise import fields, migrations
from tortoise.fields.data import JSON_DUMPS
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from models.moment import MomentField
from models.replay import ReplaySelection, ReplayStatus


class Migration(migrations.Migration):
    dependencies = [("hookline", "0010_commit_order")]

    operations = [
        ops.CreateModel(
            name="Replay",
            fields=[
                ("id", fields.UUIDField(primary_key=True, unique=True, db_index=True)),
                ("organization_id", fields.UUIDField()),
                ("webhook_id", fields.UUIDField()),
                (
                    "status",
                    fields.IntEnumField(
                        default=ReplayStatus.QUEUED,
                        description="QUEUED: 1\nRUNNING: 2\nCOMPLETED: 3\nCANCELED: 4",
                        enum_type=ReplayStatus,
                        generated=False,
                    ),
                ),
                (
                    "selection",
                    fields.CharEnumField(
                        description="DELIVERIES: DELIVERIES\nEVENTS: EVENTS\nFAILED: FAILED\nMISSING: MISSING",
                        enum_type=ReplaySelection,
                        max_length=10,
                    ),
                ),
                (
                    "ids",
                    fields.JSONField(
                        null=True,
                        description="Of the deliveries or events, where they are named.",
                        encoder=JSON_DUMPS,
                        decoder=loads,
                    ),
                ),
                ("since", MomentField(null=True, description="The range, where there is one.")),
                ("until", MomentField(null=True, description="Its end, excluded, and never later than created_at.")),
                (
                    "cursor",
                    fields.UUIDField(
                        null=True, description="How far it came: in counting while QUEUED, then in making."
                    ),
                ),
                ("is_exhausted", fields.BooleanField(default=False, description="All that was selected is made.")),
                ("total", fields.IntField(default=0)),
                ("enqueued", fields.IntField(default=0)),
                (
                    "succeeded",
                    fields.IntField(default=0, description="Written by the transaction that settles."),
                ),
                ("failed", fields.IntField(default=0, description="The same.")),
                ("created_at", MomentField()),
                ("completed_at", MomentField(null=True, description="When nothing of it was left to do.")),
            ],
            options={
                "table": "replay",
                "app": "hookline",
                "indexes": [Index(fields=["organization_id", "id"])],
                "pk_attr": "id",
                "table_description": "Asked for once. The counters are of its deliveries.",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="Delivery",
            name="replay_id",
            field=fields.UUIDField(null=True, description="The replay that asked for it."),
        ),
        ops.RunSQL(
            [
                "CREATE INDEX replay_unfinished ON replay (id) WHERE completed_at IS NULL",
                "DROP INDEX delivery_due",
                "CREATE INDEX delivery_due ON delivery (webhook_id, due_at) "
                "WHERE due_at IS NOT NULL AND replay_id IS NULL",
                "CREATE INDEX delivery_due_replayed ON delivery (webhook_id, due_at) "
                "WHERE due_at IS NOT NULL AND replay_id IS NOT NULL",
                # A replay makes one delivery of an event, whoever works on it.
                "CREATE UNIQUE INDEX delivery_replay ON delivery (replay_id, event_id) WHERE replay_id IS NOT NULL",
                "CREATE INDEX delivery_replay_open ON delivery (replay_id) "
                "WHERE replay_id IS NOT NULL AND completed_at IS NULL",
            ],
            reverse_sql=[
                "DROP INDEX delivery_replay_open",
                "DROP INDEX delivery_replay",
                "DROP INDEX delivery_due_replayed",
                "DROP INDEX delivery_due",
                "CREATE INDEX delivery_due ON delivery (webhook_id, due_at) WHERE due_at IS NOT NULL",
                "DROP INDEX replay_unfinished",
            ],
        ),
    ]
