"""An event type: an entry of an organization's catalogue."""

from typing import Any

from tortoise import fields
from tortoise.models import Model

from models.moment import MomentField


class EventType(Model):
    """A kind of event that an organization publishes. An empty catalogue accepts any well-formed name."""

    id = fields.UUIDField(primary_key=True)
    organization_id = fields.UUIDField()
    name = fields.CharField(max_length=200)
    description = fields.TextField(null=True)
    deprecation_reason = fields.TextField(null=True)
    json_schema: Any = fields.JSONField(null=True, description="JSON Schema 2020-12 of the data.")
    example: Any = fields.JSONField(null=True)
    created_at = MomentField()
    updated_at = MomentField()

    class Meta:
        table = "event_type"
        unique_together = (("organization_id", "name"),)
