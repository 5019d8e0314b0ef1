"""What has ended is counted as it ends, so that lists can say how long they are without counting their rows.

Besides, a large table is vacuumed when a twentieth of it has changed. Each delivery leaves an entry in the index of what
is open, and PostgreSQL's fifth would leave 400,000 of them to be read past when there are 2 million deliveries.
"""

from tortoise import migrations
from tortoise.migrations import operations as ops


async def _vacuum_sooner(apps, schema_editor):
    await _on_postgresql(schema_editor, "ALTER TABLE delivery SET (autovacuum_vacuum_scale_factor = 0.05)")


async def _vacuum_as_usual(apps, schema_editor):
    await _on_postgresql(schema_editor, "ALTER TABLE delivery RESET (autovacuum_vacuum_scale_factor)")


async def _on_postgresql(schema_editor, statement):
    if schema_editor.client.capabilities.dialect != "sqlite":
        await schema_editor.client.execute_script(statement)


class Migration(migrations.Migration):
    dependencies = [("hookline", "0013_ended_sessions")]

    operations = [
        ops.RunSQL(
            [
                "CREATE TABLE delivery_tally (webhook_id UUID NOT NULL, status SMALLINT NOT NULL, "
                "ended BIGINT NOT NULL, PRIMARY KEY (webhook_id, status))",
                "INSERT INTO delivery_tally (webhook_id, status, ended) SELECT webhook_id, status, COUNT(*) "
                "FROM delivery WHERE completed_at IS NOT NULL GROUP BY webhook_id, status",
            ],
            reverse_sql=["DROP TABLE delivery_tally"],
        ),
        ops.RunPython(_vacuum_sooner, _vacuum_as_usual),
    ]
