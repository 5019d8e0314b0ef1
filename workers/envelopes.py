"""The body of a request: what is wrapped round an event's data.

An event is stored as the STANDARD envelope, byte for byte as it is signed and sent; the other envelopes are cut from
it. The data's own bytes are the same in all of them, so every attempt of a delivery carries the same body.
"""

from datetime import datetime

import orjson

from models.ledger import StoredEvent
from models.moment import rfc_3339
from models.webhook import PayloadEnvelope

CONTENT_TYPE = "application/json"


def standard_body(type: str, occurred_at: datetime, data: bytes) -> tuple[bytes, int]:
    """`{"type":…,"timestamp":…,"data":…}` and where the data begins in it. `data` is JSON."""
    head = b'{"type":%s,"timestamp":"%s","data":' % (orjson.dumps(type), rfc_3339(occurred_at).encode())
    return head + data + b"}", len(head)


def body_for(envelope: PayloadEnvelope, event: StoredEvent) -> bytes:
    """What a webhook with this envelope is sent."""
    if envelope is PayloadEnvelope.STANDARD:
        return event.body
    data = event.body[event.data_offset : -1]
    if envelope is PayloadEnvelope.BARE_DATA:
        return data
    return b'{"type":%s,"object":%s}' % (orjson.dumps(event.type), data)
