"""An event: something that happened, published once."""

from tortoise import fields
from tortoise.models import Model

from models.moment import MomentField


class Event(Model):
    """Written once, in the transaction that also writes its deliveries, and never changed."""

    id = fields.UUIDField(primary_key=True)
    organization_id = fields.UUIDField()
    type = fields.CharField(max_length=200)
    occurred_at = MomentField()
    received_at = MomentField()
    body = fields.BinaryField(
        description='The STANDARD envelope as signed and sent: `{"type":…,"timestamp":…,"data":…}`.'
    )
    data_offset = fields.SmallIntField(description="Where in `body` the data begins, it ends one byte before the end.")
    is_test = fields.BooleanField(default=False, description="Made by testWebhook, for one webhook only.")

    class Meta:
        table = "event"
        indexes = (("organization_id", "id"),)

    @property
    def data(self) -> bytes:
        """The data alone, as JSON bytes."""
        return bytes(self.body[self.data_offset : -1])
