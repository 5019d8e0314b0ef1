"""What did not go well is found without reading what did.

Deliveries of which no attempt succeeded last, be they given up, canceled, or waiting for another attempt. What has not
been attempted yet is not among them, so a delivery that succeeds at once is never in these indexes.
"""

from tortoise import migrations
from tortoise.migrations import operations as ops

_TROUBLE = "(last_outcome <> 1 OR last_outcome IS NULL) AND (completed_at IS NOT NULL OR last_outcome IS NOT NULL)"


class Migration(migrations.Migration):
    dependencies = [("hookline", "0014_tally")]

    operations = [
        ops.RunSQL(
            [
                f"CREATE INDEX delivery_trouble ON delivery (webhook_id, id) WHERE {_TROUBLE}",
                f"CREATE INDEX delivery_trouble_of_organization ON delivery (organization_id, id) WHERE {_TROUBLE}",
            ],
            reverse_sql=["DROP INDEX delivery_trouble_of_organization", "DROP INDEX delivery_trouble"],
        ),
    ]
