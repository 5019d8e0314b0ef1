"""Previews: the request that would be sent, made by what makes the real one, and neither sent nor stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.event_pattern import matches
from models.ids import Prefix, encode, new_id
from models.ledger import StoredEvent
from models.moment import from_ms
from models.webhook import Webhook
from resolvers import deliveries, events, webhooks
from resolvers.caller import Caller, Scope
from resolvers.errors import FieldErrorCode, FieldProblem, NotFound, ValidationFailed
from resolvers.inputs import EventDraft, WebhookDraft
from resolvers.publisher import Prepared
from workers.courier import request_for
from workers.envelopes import standard_body
from workers.targets import target_of


@dataclass(frozen=True, slots=True)
class PreviewTarget:
    """Exactly one of the two."""

    webhook_id: str | None = None
    draft: WebhookDraft | None = None


@dataclass(frozen=True, slots=True)
class PreviewEvent:
    """Exactly one of the two."""

    event_id: str | None = None
    custom: EventDraft | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A request as it would be sent now.

    The signatures are real. Custom header values, and the challenge of a STATIC_CHALLENGE, are redacted.
    """

    matched: bool
    """Whether the webhook's patterns want this type of event; only then would it be sent."""
    url: str
    headers: Sequence[tuple[str, str]]
    """In the order sent, Host and Content-Length among them."""
    body: bytes
    curl: str


async def preview(caller: Caller, target: PreviewTarget, event: PreviewEvent) -> Preview:
    """What would be sent for an event to a webhook, or to one that is still a draft.

    A draft without a secret is signed with a made-up one that is not told; a custom event gets an id of its own.
    Raises ValidationFailed (paths begin with "target" or "event"), NotFound, Forbidden.
    """
    caller.require(*_scopes_for(target, event))
    problems = [
        *_choice_problems("target", webhookId=target.webhook_id, draft=target.draft),
        *_choice_problems("event", eventId=event.event_id, custom=event.custom),
    ]
    if problems:
        raise ValidationFailed(problems)
    now = caller.desk.clock()
    webhook = await _webhook(caller, target, now, problems)
    stored = await _event(caller, event, now, problems)
    if webhook is None or stored is None:
        raise ValidationFailed(problems)
    outgoing = request_for(target_of(webhook, caller.desk.sealer), stored, now)
    url, headers = str(outgoing.url), outgoing.shown_headers()
    return Preview(
        matched=any(matches(pattern, stored.type) for pattern in webhook.event_patterns),
        url=url,
        headers=headers,
        body=outgoing.body,
        curl=deliveries.curl(url, headers, outgoing.body.decode()),
    )


def _scopes_for(target: PreviewTarget, event: PreviewEvent) -> Iterator[Scope]:
    """Whoever has a stored secret sign words of their own could as well have published them."""
    yield Scope.WEBHOOKS_READ
    if event.event_id is not None:
        yield Scope.EVENTS_READ
    if target.webhook_id is not None and event.custom is not None:
        yield Scope.EVENTS_PUBLISH


def _choice_problems(name: str, **choices: object) -> Sequence[FieldProblem]:
    if sum(choice is not None for choice in choices.values()) == 1:
        return ()
    return [FieldProblem((name,), FieldErrorCode.INVALID_FORMAT, f"give exactly one of {' and '.join(choices)}")]


async def _webhook(caller: Caller, target: PreviewTarget, now: int, problems: list[FieldProblem]) -> Webhook | None:
    """None, and the problems noted, for a draft that breaks rules."""
    if target.draft is None:
        return await webhooks.get(caller, target.webhook_id or "")
    try:
        await webhooks.check_draft(caller, target.draft)
    except ValidationFailed as failed:
        problems += [problem.under("target", "draft") for problem in failed.fields]
        return None
    return webhooks.drafted(caller, target.draft, new_id(), now).webhook


async def _event(caller: Caller, event: PreviewEvent, now: int, problems: list[FieldProblem]) -> StoredEvent | None:
    """None, and the problems noted, for a custom event that breaks rules."""
    if event.custom is None:
        row = await events.get(caller, event.event_id or "")
        return StoredEvent(row.id, row.type, bytes(row.body), row.data_offset)
    prepared = events.prepare(event.custom, from_ms(now), caller.desk.limits.max_payload_bytes)
    found = await _catalogue_problems(caller, prepared) if isinstance(prepared, Prepared) else prepared
    if found or not isinstance(prepared, Prepared):
        problems += [problem.under("event", "custom") for problem in found]
        return None
    body, data_offset = standard_body(prepared.type, prepared.occurred_at, prepared.data)
    return StoredEvent(new_id(), prepared.type, body, data_offset)


async def _catalogue_problems(caller: Caller, prepared: Prepared) -> Sequence[FieldProblem]:
    index = await caller.desk.publisher.index_of(caller.organization_id)
    if index is None:
        raise NotFound(encode(Prefix.ORGANIZATION, caller.organization_id))
    return index.problems(prepared)
