"""An organization: a tenant. Everything else belongs to one."""

from tortoise import fields
from tortoise.models import Model

from models.moment import MomentField


class Organization(Model):
    """A customer of the product that stands beside us."""

    id = fields.UUIDField(primary_key=True)
    name = fields.CharField(max_length=200)
    external_id = fields.CharField(max_length=200, null=True, unique=True, description="The product's own word for it.")
    max_webhooks = fields.IntField(null=True, description="Null: the server's setting.")
    version = fields.BigIntField(
        default=1,
        description="Rises with every write to its webhooks or event types, publishers compare it with their cache.",
    )
    created_at = MomentField()
    deleted_at = MomentField(null=True, description="Set at once, the rest is forgotten in the background.")

    class Meta:
        table = "organization"
