"""The operation on events: ask, call."""

from app.rest import bodies
from app.rest.dialect import Answer, Call
from app.rest.reading import IDEMPOTENCY_KEY
from resolvers import events
from resolvers.errors import FieldErrorCode, ValidationFailed
from resolvers.validation import MAX_IDEMPOTENCY_KEY

_MAX_BATCH_KEY = MAX_IDEMPOTENCY_KEY - len(":999")


async def publish_events(call: Call, publication: bodies.Publication) -> Answer:
    """Publish an event, or up to 1000

    Of many, all are published or none. The answer comes when they are stored; they are delivered soon after.
    An Idempotency-Key covers the whole list: each event gets the key `<key>:<index>`, so for a list it may have at
    most 251 characters.
    """
    key = call.idempotency_key
    if publication.one is not None:
        published = await events.publish(call.caller, publication.one.to_draft(key))
        return Answer(bodies.PublishedEvent.of(published))
    if key is not None and len(key) > _MAX_BATCH_KEY:
        message = f"must be at most {_MAX_BATCH_KEY} characters for a list of events"
        raise ValidationFailed.of(IDEMPOTENCY_KEY, FieldErrorCode.TOO_LONG, message)
    drafts = [event.to_draft(None if key is None else f"{key}:{index}") for index, event in enumerate(publication.many)]
    try:
        many = await events.publish_many(call.caller, drafts)
    except ValidationFailed as failed:
        raise ValidationFailed(problem.under(*publication.path) for problem in failed.fields) from None
    return Answer(
        bodies.PublishedEvents(success=True, data=[bodies.PublishedEvent.of(published) for published in many])
    )
