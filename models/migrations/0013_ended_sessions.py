"""Browser sessions that were ended before their time."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from models.moment import MomentField


class Migration(migrations.Migration):
    dependencies = [("hookline", "0012_dead_letters")]

    operations = [
        ops.CreateModel(
            name="EndedSession",
            fields=[
                ("id", fields.UUIDField(primary_key=True, unique=True, db_index=True)),
                ("expires_at", MomentField()),
            ],
            options={
                "table": "ended_session",
                "app": "hookline",
                "pk_attr": "id",
                "table_description": "Kept until the session would have ended by itself.",
            },
            bases=["Model"],
        ),
    ]
