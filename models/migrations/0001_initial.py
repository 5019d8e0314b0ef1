"""The first tables.

Below the tables that Tortoise makes stand what it cannot declare: partial indexes with conditions of their own, and
two tables with composite keys. The same SQL serves PostgreSQL and SQLite.
"""

from uuid import uuid4

from orjson import loads
from tortoise import fields, migrations
from tortoise.fields.data import JSON_DUMPS
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.moment import MomentField
from models.webhook import DisabledReason, PayloadEnvelope, WebhookStatus


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="ApiKey",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                ("organization_id", fields.UUIDField()),
                ("name", fields.CharField(max_length=200)),
                ("prefix", fields.CharField(description="The token's beginning, to recognise it by.", max_length=20)),
                (
                    "digest",
                    fields.CharField(unique=True, description="SHA-256 of the whole token, in hex.", max_length=64),
                ),
                ("scopes", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
                ("contract", fields.CharField(default="native", max_length=20)),
                ("created_at", MomentField()),
                ("last_used_at", MomentField(null=True, description="To the minute.")),
                ("expires_at", MomentField(null=True)),
                ("revoked_at", MomentField(null=True)),
            ],
            options={
                "table": "api_key",
                "app": "hookline",
                "indexes": [Index(fields=["organization_id"])],
                "pk_attr": "id",
                "table_description": "What a caller shows to act for an organization.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Attempt",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                ("organization_id", fields.UUIDField()),
                ("delivery_id", fields.UUIDField()),
                ("webhook_id", fields.UUIDField()),
                ("number", fields.SmallIntField(description="1 for the first attempt of its delivery.")),
                (
                    "outcome",
                    fields.IntEnumField(
                        description="SUCCESS: 1\nHTTP_ERROR: 2\nREDIRECT_REFUSED: 3\nTIMEOUT: 4\nCONNECTION_ERROR: 5\nTLS_ERROR: 6\nDNS_ERROR: 7\nBLOCKED_ADDRESS: 8\nRESPONSE_TOO_LARGE: 9\nPROTOCOL_ERROR: 10\nABANDONED: 11",
                        enum_type=AttemptOutcome,
                        generated=False,
                    ),
                ),
                ("error", fields.TextField(null=True, description="One line, safe to show.", unique=False)),
                ("started_at", MomentField()),
                (
                    "duration_us",
                    fields.BigIntField(description="Microseconds from before the connect to the last byte read."),
                ),
                ("request_url", fields.TextField(null=True, unique=False)),
                (
                    "request_headers",
                    fields.TextField(
                        null=True, description="JSON list of [name, value], custom values redacted.", unique=False
                    ),
                ),
                ("request_bytes", fields.IntField(default=0)),
                ("response_status", fields.SmallIntField(null=True)),
                (
                    "response_headers",
                    fields.TextField(null=True, description="JSON list of [name, value].", unique=False),
                ),
                ("response_excerpt", fields.BinaryField(null=True, description="The first 1024 bytes, as they came.")),
                ("response_truncated", fields.BooleanField(default=False)),
            ],
            options={
                "table": "attempt",
                "app": "hookline",
                "indexes": [Index(fields=["delivery_id", "number"])],
                "pk_attr": "id",
                "table_description": "One finished HTTP request. Written only by the ledger, in the transaction that settles its delivery.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Delivery",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                ("organization_id", fields.UUIDField()),
                ("webhook_id", fields.UUIDField()),
                ("event_id", fields.UUIDField()),
                ("event_type", fields.CharField(max_length=200)),
                (
                    "status",
                    fields.IntEnumField(
                        default=DeliveryStatus.PENDING,
                        description="PENDING: 1\nSENDING: 2\nRETRYING: 3\nSUCCEEDED: 4\nDEAD_LETTERED: 5\nCANCELED: 6",
                        enum_type=DeliveryStatus,
                        generated=False,
                    ),
                ),
                (
                    "trigger",
                    fields.IntEnumField(
                        default=DeliveryTrigger.EVENT,
                        description="EVENT: 1\nTEST: 2\nREPLAY: 3",
                        enum_type=DeliveryTrigger,
                        generated=False,
                    ),
                ),
                ("replay_of_id", fields.UUIDField(null=True)),
                ("attempt_count", fields.SmallIntField(default=0, description="Attempts begun.")),
                (
                    "failure_count",
                    fields.SmallIntField(
                        default=0, description="Attempts known to have failed, counts against max_attempts."
                    ),
                ),
                (
                    "due_at",
                    MomentField(
                        null=True, description="When it may be claimed. Null: parked (webhook PAUSED) or finished."
                    ),
                ),
                ("lease_until", MomentField(null=True, description="Until when the claim holds. Null: not claimed.")),
                (
                    "fence",
                    fields.IntField(
                        default=0,
                        description="Fencing token: another with each claim, a result under an old one is refused.",
                    ),
                ),
                (
                    "last_outcome",
                    fields.IntEnumField(
                        null=True,
                        description="SUCCESS: 1\nHTTP_ERROR: 2\nREDIRECT_REFUSED: 3\nTIMEOUT: 4\nCONNECTION_ERROR: 5\nTLS_ERROR: 6\nDNS_ERROR: 7\nBLOCKED_ADDRESS: 8\nRESPONSE_TOO_LARGE: 9\nPROTOCOL_ERROR: 10\nABANDONED: 11",
                        enum_type=AttemptOutcome,
                        generated=False,
                    ),
                ),
                ("last_status_code", fields.SmallIntField(null=True)),
                ("created_at", MomentField()),
                ("completed_at", MomentField(null=True)),
            ],
            options={
                "table": "delivery",
                "app": "hookline",
                "indexes": [
                    Index(fields=["organization_id", "id"]),
                    Index(fields=["webhook_id", "id"]),
                    Index(fields=["event_id"]),
                ],
                "pk_attr": "id",
                "table_description": "One event on its way to one webhook.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Event",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                ("organization_id", fields.UUIDField()),
                ("type", fields.CharField(max_length=200)),
                ("occurred_at", MomentField()),
                ("received_at", MomentField()),
                (
                    "body",
                    fields.BinaryField(
                        description='The STANDARD envelope as signed and sent: `{"type":…,"timestamp":…,"data":…}`.'
                    ),
                ),
                (
                    "data_offset",
                    fields.SmallIntField(
                        description="Where in `body` the data begins, it ends one byte before the end."
                    ),
                ),
                (
                    "is_test",
                    fields.BooleanField(default=False, description="Made by testWebhook, for one webhook only."),
                ),
            ],
            options={
                "table": "event",
                "app": "hookline",
                "indexes": [Index(fields=["organization_id", "id"])],
                "pk_attr": "id",
                "table_description": "Written once, in the transaction that also writes its deliveries, and never changed.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="EventType",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                ("organization_id", fields.UUIDField()),
                ("name", fields.CharField(max_length=200)),
                ("description", fields.TextField(null=True, unique=False)),
                ("deprecation_reason", fields.TextField(null=True, unique=False)),
                (
                    "json_schema",
                    fields.JSONField(
                        null=True, description="JSON Schema 2020-12 of the data.", encoder=JSON_DUMPS, decoder=loads
                    ),
                ),
                ("example", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
                ("created_at", MomentField()),
                ("updated_at", MomentField()),
            ],
            options={
                "table": "event_type",
                "app": "hookline",
                "unique_together": (("organization_id", "name"),),
                "pk_attr": "id",
                "table_description": "A kind of event that an organization publishes. An empty catalogue accepts any well-formed name.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Organization",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                ("name", fields.CharField(max_length=200)),
                (
                    "external_id",
                    fields.CharField(
                        null=True, unique=True, description="The product's own word for it.", max_length=200
                    ),
                ),
                ("max_webhooks", fields.IntField(null=True, description="Null: the server's setting.")),
                (
                    "version",
                    fields.BigIntField(
                        default=1,
                        description="Rises with every write to its webhooks or event types, publishers compare it with their cache.",
                    ),
                ),
                ("created_at", MomentField()),
                (
                    "deleted_at",
                    MomentField(null=True, description="Set at once, the rest is forgotten in the background."),
                ),
            ],
            options={
                "table": "organization",
                "app": "hookline",
                "pk_attr": "id",
                "table_description": "A customer of the product that stands beside us.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Webhook",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                ("organization_id", fields.UUIDField()),
                ("url", fields.TextField(unique=False)),
                ("name", fields.CharField(null=True, max_length=60)),
                ("description", fields.CharField(null=True, max_length=200)),
                ("event_patterns", fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ("api_version", fields.CharField(max_length=20)),
                (
                    "envelope",
                    fields.CharEnumField(
                        default=PayloadEnvelope.STANDARD,
                        description="STANDARD: STANDARD\nBARE_DATA: BARE_DATA\nTYPE_OBJECT: TYPE_OBJECT",
                        enum_type=PayloadEnvelope,
                        max_length=20,
                    ),
                ),
                ("signature_profiles", fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ("timeout_ms", fields.IntField(description="Over connect, headers and body together.")),
                ("max_attempts", fields.SmallIntField()),
                (
                    "retry_schedule",
                    fields.JSONField(
                        description="Seconds before attempt 2, 3, …, before jitter.", encoder=JSON_DUMPS, decoder=loads
                    ),
                ),
                ("max_per_second", fields.IntField(null=True)),
                ("custom_headers", fields.BinaryField(null=True, description="Sealed JSON list of [name, value].")),
                ("custom_header_names", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
                ("metadata", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
                (
                    "status",
                    fields.CharEnumField(
                        default=WebhookStatus.ENABLED,
                        description="ENABLED: ENABLED\nPAUSED: PAUSED\nDISABLED: DISABLED",
                        enum_type=WebhookStatus,
                        max_length=10,
                    ),
                ),
                (
                    "disabled_reason",
                    fields.CharEnumField(
                        null=True,
                        description="MANUAL: MANUAL\nCONSECUTIVE_FAILURES: CONSECUTIVE_FAILURES\nGONE: GONE\nVERIFICATION_FAILED: VERIFICATION_FAILED",
                        enum_type=DisabledReason,
                        max_length=24,
                    ),
                ),
                ("disabled_at", MomentField(null=True)),
                ("secret", fields.BinaryField(null=True, description="Sealed. Null once deleted.")),
                ("secret_hint", fields.CharField(description="The secret's last four characters.", max_length=4)),
                ("secret_created_at", MomentField()),
                ("previous_secret", fields.BinaryField(null=True, description="Sealed, signs beside the new one.")),
                ("previous_secret_expires_at", MomentField(null=True)),
                ("revision", fields.IntField(default=1)),
                ("created_at", MomentField()),
                ("updated_at", MomentField()),
                ("deleted_at", MomentField(null=True)),
            ],
            options={
                "table": "webhook",
                "app": "hookline",
                "indexes": [Index(fields=["organization_id", "id"])],
                "pk_attr": "id",
                "table_description": "A registered address. Deleted ones stay as rows, without secrets, so that old deliveries keep their place.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="WebhookHealth",
            fields=[
                ("webhook_id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                (
                    "consecutive_failures",
                    fields.IntField(default=0, description="Failed attempts since the last success."),
                ),
                ("failing_since", MomentField(null=True, description="The first failure since the last success.")),
                ("last_success_at", MomentField(null=True)),
                ("last_failure_at", MomentField(null=True)),
                (
                    "last_delivery_failed",
                    fields.BooleanField(default=False, description="Its last finished delivery failed."),
                ),
            ],
            options={
                "table": "webhook_health",
                "app": "hookline",
                "pk_attr": "webhook_id",
                "table_description": "How a webhook has been doing. Apart from the webhook, because each settled batch writes it.",
            },
            bases=["Model"],
        ),
        ops.RunSQL(
            [
                # What the claim reads, webhook by webhook: only what waits or is being sent has a `due_at`.
                "CREATE INDEX delivery_due ON delivery (webhook_id, due_at) WHERE due_at IS NOT NULL",
                # A webhook's backlog: its size, its age, and what to park or cancel.
                "CREATE INDEX delivery_open ON delivery (webhook_id, id) WHERE completed_at IS NULL",
                # What failed for good is looked for often and is rare.
                "CREATE INDEX delivery_dead ON delivery (webhook_id, id) WHERE status = 5",
                "CREATE INDEX delivery_dead_of_organization ON delivery (organization_id, id) WHERE status = 5",
                "CREATE TABLE delivery_rollup (webhook_id UUID NOT NULL, resolution_ms INT NOT NULL, "
                "start BIGINT NOT NULL, attempts INT NOT NULL, attempts_succeeded INT NOT NULL, "
                "succeeded INT NOT NULL, dead_lettered INT NOT NULL, canceled INT NOT NULL, max_us BIGINT NOT NULL, "
                + ", ".join(f"h{i:02} INT NOT NULL" for i in range(32))
                + ", PRIMARY KEY (webhook_id, resolution_ms, start))",
                "CREATE INDEX delivery_rollup_age ON delivery_rollup (resolution_ms, start)",
                "CREATE TABLE webhook_gate (webhook_id UUID NOT NULL PRIMARY KEY, tokens DOUBLE PRECISION NOT NULL, "
                "refilled_at BIGINT NOT NULL)",
                "CREATE TABLE idempotency (organization_id UUID NOT NULL, operation VARCHAR(40) NOT NULL, "
                "key VARCHAR(255) NOT NULL, request_digest BYTEA NOT NULL, result_id UUID NOT NULL, "
                "created_at BIGINT NOT NULL, PRIMARY KEY (organization_id, operation, key))",
                "CREATE INDEX idempotency_age ON idempotency (created_at)",
            ],
            reverse_sql=["DROP TABLE idempotency", "DROP TABLE webhook_gate", "DROP TABLE delivery_rollup"],
        ),
    ]
