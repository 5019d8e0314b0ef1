"""Signatures as a receiver saw them: are they right, and if not, why not."""

import asyncio
from collections.abc import Sequence
from functools import partial

from models.event import Event
from models.ids import Prefix, decode
from models.ledger import StoredEvent
from models.webhook import PayloadEnvelope, Webhook
from resolvers import webhooks
from resolvers.caller import Caller, Scope
from resolvers.errors import FieldErrorCode, FieldProblem, ValidationFailed
from workers.envelopes import body_for
from workers.signing import ID_HEADER
from workers.targets import target_of
from workers.verifying import Keys, SignatureReport, verify

MAX_HEADERS = 100
MAX_HEADER_CHARACTERS = 16_384
"""Of one header's name or value."""
MAX_BODY_BYTES = 1_048_576


async def check(caller: Caller, webhook_id: str, headers: Sequence[tuple[str, str]], body: str) -> SignatureReport:
    """Says whether a request is signed as this webhook signs. Nothing of it is kept.

    Raises ValidationFailed, NotFound, Forbidden.
    """
    caller.require(Scope.WEBHOOKS_READ)
    raw = _checked(headers, body)
    webhook = await webhooks.get(caller, webhook_id)
    target = target_of(webhook, caller.desk.sealer)
    work = partial(
        verify,
        target.profiles,
        Keys(target.secret, target.previous_secret, target.previous_secret_expires_at),
        headers=headers,
        body=raw,
        now=caller.desk.clock(),
        sent=await _sent_bodies(caller, webhook, headers),
    )
    return await asyncio.to_thread(work)  # a megabyte is hashed up to a hundred times, before all hope is given up


def _checked(headers: Sequence[tuple[str, str]], body: str) -> bytes:
    """The body's bytes. Raises ValidationFailed."""
    problems: list[FieldProblem] = []
    if len(headers) > MAX_HEADERS:
        problems.append(FieldProblem(("headers",), FieldErrorCode.TOO_MANY, f"must be at most {MAX_HEADERS}"))
    for i, (name, value) in enumerate(headers[:MAX_HEADERS]):
        for part, text in (("name", name), ("value", value)):
            if len(text) > MAX_HEADER_CHARACTERS:
                message = f"must be at most {MAX_HEADER_CHARACTERS} characters"
                problems.append(FieldProblem(("headers", str(i), part), FieldErrorCode.TOO_LONG, message))
    raw = b""
    try:
        raw = body.encode()
    except UnicodeEncodeError:
        message = "must not hold lone surrogates: hand over the body as UTF-8"
        problems.append(FieldProblem(("body",), FieldErrorCode.INVALID_FORMAT, message))
    if len(raw) > MAX_BODY_BYTES:
        message = f"must be at most {MAX_BODY_BYTES} bytes (1 MiB)"
        problems.append(FieldProblem(("body",), FieldErrorCode.TOO_LARGE, message))
    if problems:
        raise ValidationFailed(problems)
    return raw


async def _sent_bodies(caller: Caller, webhook: Webhook, headers: Sequence[tuple[str, str]]) -> Sequence[bytes]:
    """What is sent for the event that the request names, if it is the caller's: first in the webhook's envelope of
    now, then in those that it may have had."""
    given = next((value.strip() for name, value in headers if name.strip().lower() == ID_HEADER), "")
    event_id = decode(Prefix.EVENT, given)
    row = await Event.get_or_none(id=event_id, organization_id=caller.organization_id) if event_id else None
    if row is None:
        return ()
    event = StoredEvent(row.id, row.type, bytes(row.body), row.data_offset)
    return [body_for(envelope, event) for envelope in sorted(PayloadEnvelope, key=lambda e: e is not webhook.envelope)]
