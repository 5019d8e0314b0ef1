"""Webhooks know the contract they were made through.

A number is never given twice in an organization: the index below holds deleted webhooks, too.
"""

from orjson import loads
from tortoise import fields, migrations
from tortoise.fields.data import JSON_DUMPS
from tortoise.migrations import operations as ops

from models.migrating import AddFilledField


class Migration(migrations.Migration):
    dependencies = [("hookline", "0001_initial")]

    operations = [
        AddFilledField(
            model_name="Webhook",
            name="contract",
            field=fields.CharField(
                default="native", description="The REST dialect it was made through.", max_length=20
            ),
            column="VARCHAR(20) NOT NULL DEFAULT 'native'",
        ),
        ops.AddField(
            model_name="Webhook",
            name="contract_id",
            field=fields.CharField(
                null=True, description="Its id in that dialect, where that is not made from ours.", max_length=64
            ),
        ),
        ops.AddField(
            model_name="Webhook",
            name="number",
            field=fields.BigIntField(
                null=True, description="Its number within the organization, for ids that are integers."
            ),
        ),
        ops.AddField(
            model_name="Webhook",
            name="contract_fields",
            field=fields.JSONField(
                null=True,
                description="What only that dialect knows and shows again.",
                encoder=JSON_DUMPS,
                decoder=loads,
            ),
        ),
        AddFilledField(
            model_name="Webhook",
            name="disable_when_exhausted",
            field=fields.BooleanField(
                default=False, description="Turn it off when a delivery has failed for the last time."
            ),
            column="BOOLEAN NOT NULL DEFAULT FALSE",
        ),
        ops.RunSQL(
            ["CREATE UNIQUE INDEX webhook_number ON webhook (organization_id, number) WHERE number IS NOT NULL"],
            reverse_sql=["DROP INDEX webhook_number"],
        ),
    ]
