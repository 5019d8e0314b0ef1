"""Whose a key is: staff are known by their e-mail address."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("hookline", "0002_contracts")]

    operations = [
        ops.AddField(
            model_name="ApiKey",
            name="owner_email",
            field=fields.CharField(null=True, description="Whose it is. Staff may act for anybody.", max_length=254),
        ),
    ]
