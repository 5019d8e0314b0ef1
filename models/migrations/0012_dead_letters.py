"""Claims update rows in place: no index may hold `status`, not even as its condition.

PostgreSQL counts the columns of an index's condition among those it holds, and writes a new entry into every index of
the table when one of them changes. What failed for good is found by `dead_at` instead, which no claim writes, and each
page of the table keeps room for a second version of each row. That room is in pages that are yet to be filled; the rest
get it when the table is rewritten.
"""

from tortoise import migrations
from tortoise.migrations import operations as ops

from models.moment import MomentField


async def _leave_room(apps, schema_editor):
    await _on_postgresql(schema_editor, "ALTER TABLE delivery SET (fillfactor = 50)")


async def _fill_up(apps, schema_editor):
    await _on_postgresql(schema_editor, "ALTER TABLE delivery RESET (fillfactor)")


async def _on_postgresql(schema_editor, statement):
    if schema_editor.client.capabilities.dialect != "sqlite":
        await schema_editor.client.execute_script(statement)


class Migration(migrations.Migration):
    dependencies = [("hookline", "0011_replays")]

    operations = [
        ops.AddField(
            model_name="Delivery",
            name="dead_at",
            field=MomentField(null=True, description="When it was DEAD_LETTERED. Null: it was not."),
        ),
        ops.RunSQL(
            [
                "UPDATE delivery SET dead_at = completed_at WHERE status = 5",
                "DROP INDEX delivery_dead",
                "DROP INDEX delivery_dead_of_organization",
                "CREATE INDEX delivery_dead ON delivery (webhook_id, id) WHERE dead_at IS NOT NULL",
                "CREATE INDEX delivery_dead_of_organization ON delivery (organization_id, id) WHERE dead_at IS NOT NULL",
            ],
            reverse_sql=[
                "DROP INDEX delivery_dead_of_organization",
                "DROP INDEX delivery_dead",
                "CREATE INDEX delivery_dead ON delivery (webhook_id, id) WHERE status = 5",
                "CREATE INDEX delivery_dead_of_organization ON delivery (organization_id, id) WHERE status = 5",
            ],
        ),
        ops.RunPython(_leave_room, _fill_up),
    ]
