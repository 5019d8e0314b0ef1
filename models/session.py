"""Browser sessions that were ended before their time. A session that goes on is stored nowhere."""

from tortoise import fields
from tortoise.models import Model

from models.moment import MomentField


class EndedSession(Model):
    """Kept until the session would have ended by itself."""

    id = fields.UUIDField(primary_key=True)
    expires_at = MomentField()

    class Meta:
        table = "ended_session"
