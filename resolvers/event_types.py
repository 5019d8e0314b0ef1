"""The catalogue: which kinds of events an organization publishes. Empty, it accepts any well-formed name."""

import re
from collections.abc import Sequence

from tortoise.transactions import in_transaction

from models.event_pattern import MAX_LENGTH, is_event_name, matches
from models.event_type import EventType
from models.ids import Prefix, encode, new_id
from models.moment import from_ms
from models.organization import Organization
from resolvers import validation
from resolvers.caller import Caller, Scope
from resolvers.errors import FieldErrorCode, FieldProblem, NotFound, ValidationFailed
from resolvers.inputs import EventTypeDraft
from resolvers.publisher import compiled

MAX_TEXT = 2000
MAX_JSON_BYTES = 65_536


async def list_(caller: Caller, matching: Sequence[str] | None = None) -> list[EventType]:
    """The catalogue, by name; of it only what one of the patterns matches, if there are patterns."""
    rows = await EventType.filter(organization_id=caller.organization_id).order_by("name")
    if matching is None:
        return rows
    return [row for row in rows if any(matches(pattern, row.name) for pattern in matching)]


async def put(caller: Caller, draft: EventTypeDraft) -> EventType:
    """Writes an entry of the catalogue, whole. Raises ValidationFailed, Forbidden."""
    caller.require(Scope.ADMIN)
    problems = list(_problems(draft))
    if problems:
        raise ValidationFailed(problems)
    now = from_ms(caller.desk.clock())
    written = {
        "description": draft.description,
        "deprecation_reason": draft.deprecation_reason,
        "json_schema": draft.json_schema,
        "updated_at": now,
    }
    async with in_transaction() as connection:
        rows = Organization.filter(id=caller.organization_id, deleted_at__isnull=True)
        organization = await rows.using_db(connection).select_for_update().first()
        if organization is None:
            raise NotFound(encode(Prefix.ORGANIZATION, caller.organization_id))
        entry = await EventType.filter(organization_id=organization.id, name=draft.name).using_db(connection).first()
        known = entry is not None
        entry = entry or EventType(id=new_id(), organization_id=organization.id, name=draft.name, created_at=now)
        entry.update_from_dict(written)
        # Tortoise takes text in a JSON column for JSON that is written already, which an example need not be.
        encoded = validation.as_stored_json(draft.example) if draft.example is not None else None
        entry.example = encoded and encoded.decode()
        await entry.save(using_db=connection, force_create=not known, force_update=known)
        entry.example = draft.example
        organization.version += 1
        await organization.save(using_db=connection, update_fields=["version"])
    return entry


def _problems(draft: EventTypeDraft) -> validation.Problems:
    if not is_event_name(draft.name):
        message = f"must be words joined by dots or slashes, such as order.created, at most {MAX_LENGTH} characters"
        yield FieldProblem(("name",), FieldErrorCode.INVALID_FORMAT, message)
    yield from validation.text_problems("description", draft.description, MAX_TEXT)
    yield from validation.text_problems("deprecationReason", draft.deprecation_reason, MAX_TEXT)
    for name, value in (("jsonSchema", draft.json_schema), ("example", draft.example)):
        encoded = validation.as_stored_json(value)
        if encoded is None:
            yield FieldProblem((name,), FieldErrorCode.INVALID_FORMAT, "cannot be stored as JSON")
        elif len(encoded) > MAX_JSON_BYTES:
            yield FieldProblem((name,), FieldErrorCode.TOO_LARGE, f"must be at most {MAX_JSON_BYTES} bytes as JSON")
    if draft.json_schema is None:
        return
    try:
        validator = compiled(draft.json_schema)
    except ValueError as error:
        reason = re.split(r"\n", str(error), maxsplit=1)[0][:300]
        yield FieldProblem(("jsonSchema",), FieldErrorCode.INVALID_FORMAT, f"is not a usable JSON Schema: {reason}")
        return
    if draft.example is not None and not validator.is_valid(draft.example):
        message = "does not match the JSON Schema beside it"
        yield FieldProblem(("example",), FieldErrorCode.SCHEMA_MISMATCH, message)
