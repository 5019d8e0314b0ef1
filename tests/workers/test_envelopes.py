"""What is wrapped round an event's data, byte for byte."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ids import new_id
from models.ledger import StoredEvent
from models.webhook import PayloadEnvelope
from workers.envelopes import body_for, standard_body

MOMENT = datetime(2026, 11, 21, 8, 15, 30, 250_999, UTC)
DATA = '{"id":42,"name":"Zoë","amount":1.50}'.encode()


def event(data: bytes = DATA, type: str = "order.created") -> StoredEvent:
    body, data_offset = standard_body(type, MOMENT, data)
    return StoredEvent(new_id(), type, body, data_offset)


@pytest.mark.parametrize(
    ("envelope", "body"),
    [
        (PayloadEnvelope.STANDARD, b'{"type":"order.created","timestamp":"2026-11-21T08:15:30.250Z","data":%s}' % DATA),
        (PayloadEnvelope.BARE_DATA, DATA),
        (PayloadEnvelope.TYPE_OBJECT, b'{"type":"order.created","object":%s}' % DATA),
    ],
)
def test_each_envelope_byte_for_byte(envelope: PayloadEnvelope, body: bytes) -> None:
    assert body_for(envelope, event()) == body
    assert [body_for(envelope, event()) for _ in range(3)] == [body] * 3


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values, st.from_regex(r"\A[A-Za-z0-9_.\-/]{1,200}\Z"))
def test_the_data_keeps_its_bytes_in_every_envelope(value: Any, type: str) -> None:
    data = orjson.dumps(value)
    made = event(data, type)
    standard, bare, typed = (orjson.loads(body_for(envelope, made)) for envelope in PayloadEnvelope)
    assert standard == {"type": type, "timestamp": "2026-11-21T08:15:30.250Z", "data": value}
    assert bare == value
    assert typed == {"type": type, "object": value}
    assert body_for(PayloadEnvelope.BARE_DATA, made) == data
    assert body_for(PayloadEnvelope.TYPE_OBJECT, made).endswith(b'"object":' + data + b"}")
