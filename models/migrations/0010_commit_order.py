"""Attempts and events know the transaction that wrote them, so that streams can read them in the order of commit.

On PostgreSQL the default is evaluated once for the rows that are there already: the table is not rewritten. SQLite
has its rowid, which an index on one column carries in itself.
"""

from tortoise import migrations
from tortoise.migrations import operations as ops


async def _add(apps, schema_editor):
    if schema_editor.client.capabilities.dialect == "sqlite":
        statements = ["CREATE INDEX {0}_stream ON {0} (organization_id)"]
    else:
        statements = [
            "ALTER TABLE {0} ADD COLUMN tx BIGINT NOT NULL DEFAULT txid_current()",
            "CREATE INDEX {0}_stream ON {0} (organization_id, tx, id)",
        ]
    for statement in statements:
        for table in ("attempt", "event"):
            await schema_editor.client.execute_script(statement.format(table))


async def _remove(apps, schema_editor):
    for table in ("attempt", "event"):
        await schema_editor.client.execute_script(f"DROP INDEX {table}_stream")
        if schema_editor.client.capabilities.dialect != "sqlite":
            await schema_editor.client.execute_script(f"ALTER TABLE {table} DROP COLUMN tx")


class Migration(migrations.Migration):
    dependencies = [("hookline", "0003_key_owner")]

    operations = [ops.RunPython(_add, _remove)]
