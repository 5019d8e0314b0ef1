"""What callers of a contract can do with webhooks: the same for all contracts, in the words of each one's page."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel

from app.rest.contract import IdForm, Shown, Terms
from app.rest.dialect import Answer, Call, Nothing
from models.ids import Prefix, encode
from models.webhook import Webhook, WebhookStatus
from resolvers import attempts, statistics, webhooks
from resolvers.attempts import AttemptFilter, Sent, Verdict
from resolvers.caller import Scope
from resolvers.errors import FieldErrorCode, NotFound, ValidationFailed
from resolvers.inputs import WebhookFilter
from resolvers.paging import MAX_SIZE, PageRequest
from resolvers.statistics import DeliveryStats, StatsWindow
from workers.signing import new_secret

_PREVIOUS_IS_ACCEPTED = timedelta(minutes=5)
"""How long receivers should go on accepting a secret that was rotated, for what is on its way."""
_BACKWARDS = "-"
"""Before a cursor: the page before it. A cursor itself never begins so."""


@dataclass
class Listed:
    """A part of a list, in every word that a contract may have for it."""

    items: Sequence[Any]
    total: int | None
    limit: int
    offset: int = 0
    page: int = 1
    pages: int = 1
    next_cursor: str | None = None
    previous_cursor: str | None = None
    itself: "Listed" = field(init=False)

    def __post_init__(self) -> None:
        self.itself = self
        self.has_more = self.next_cursor is not None
        self.has_fewer = self.previous_cursor is not None
        self.next_cursor_or_empty = self.next_cursor or ""
        self.previous_cursor_or_empty = self.previous_cursor or ""


async def create_webhook(call: Call, given: BaseModel) -> Answer:
    """Create a webhook"""
    draft = _terms(call).draft_of(call.dialect.name, _wish(given), call.idempotency_key)
    created = await webhooks.create(call.caller, draft)
    shown = await _shown(call, created.webhook, created.secret, is_new=True)
    return _answer(call, shown, {"Location": f"{call.operation.path.format_map(call.parameters)}/{shown.id}"})


async def list_webhooks(call: Call, query: BaseModel) -> Answer:
    """List webhooks, the latest first, without their secrets unless these are always shown"""
    wish = query.model_dump(by_alias=True)
    limit, cursor = wish["limit"], wish.get("cursor")
    if cursor is not None and cursor.startswith(_BACKWARDS):
        request = PageRequest(last=limit, before=cursor.removeprefix(_BACKWARDS))
    else:
        request = PageRequest(first=limit, after=cursor)
    wanted = WebhookFilter(contract=call.dialect.name)
    page = await webhooks.list_(call.caller, wanted, request)
    rows = page.items
    return _answer(
        call,
        Listed(
            items=await _all_shown(call, rows),
            total=await webhooks.count(call.caller, wanted),
            limit=limit,
            next_cursor=page.cursor_of(rows[-1]) if page.has_next_page and rows else None,
            previous_cursor=_BACKWARDS + page.cursor_of(rows[0]) if page.has_previous_page and rows else None,
        ),
    )


async def list_webhooks_by_page(call: Call, query: BaseModel) -> Answer:
    """List webhooks, the latest first, by the number of the page"""
    wish = query.model_dump(by_alias=True)
    wanted = WebhookFilter(
        contract=call.dialect.name, name_contains=wish.get("name_contains"), url_contains=wish.get("url_contains")
    )
    rows = [row for row in await _all(call, wanted) if _is_wanted(row, wish)]
    limit, page = wish["limit"], wish["page"]
    first = (page - 1) * limit
    shown = await _all_shown(call, rows[first : first + limit])
    return _answer(
        call, Listed(items=shown, total=len(rows), limit=limit, offset=first, page=page, pages=ceil(len(rows) / limit))
    )


async def get_webhook(call: Call, _: Nothing) -> Answer:
    """Get a webhook"""
    row = await _found(call)
    call.caller.require(Scope.WEBHOOKS_READ)
    return _answer(call, await _shown(call, row))


async def change_webhook(call: Call, given: BaseModel) -> Answer:
    """Change a webhook; what is left out stays"""
    before = await _found(call)
    change = _terms(call).change_of(before, _wish(given))
    row = await webhooks.update(call.caller, encode(Prefix.WEBHOOK, before.id), change)
    return _answer(call, await _shown(call, row))


async def delete_webhook(call: Call, _: Nothing) -> Answer:
    """Delete a webhook, for good; what waits for it is canceled"""
    row = await _found(call)
    shown = await _shown(call, row)
    await webhooks.delete(call.caller, encode(Prefix.WEBHOOK, row.id))
    return _answer(call, shown)


async def rotate_secret(call: Call, _: BaseModel) -> Answer:
    """Give a webhook a new secret, shown this once; the former one is gone at once"""
    row = await _found(call)
    secret = new_secret(prefix=_terms(call).secret_prefix)
    rotated = await webhooks.rotate_secret(
        call.caller, encode(Prefix.WEBHOOK, row.id), secret=secret, overlap_seconds=0, force=True
    )
    return _answer(call, await _shown(call, rotated.webhook, rotated.secret))


async def rotate_all_secrets(call: Call, _: BaseModel) -> Answer:
    """Give all of the organization's webhooks one new secret, shown this once; they sign with it at once"""
    secret = new_secret(prefix=_terms(call).secret_prefix)
    rotated_at = await webhooks.rotate_all_secrets(call.caller, call.dialect.name, secret)
    valid_until = rotated_at + _PREVIOUS_IS_ACCEPTED
    return _answer(call, {"secret": secret, "rotated_at": rotated_at, "previous_valid_until": valid_until})


async def send_test(call: Call, _: BaseModel) -> Answer:
    """Send a test event, at once, and tell how the receiver took it"""
    row = await _found(call)
    tested = await webhooks.test(call.caller, encode(Prefix.WEBHOOK, row.id))
    verdict = Verdict.SUCCESS if tested.attempt.error is None else Verdict.DEAD
    return _answer(call, ShownAttempt(_terms(call).ids, Sent(tested.attempt, tested.delivery, row, verdict, None)))


async def list_attempts(call: Call, query: BaseModel) -> Answer:
    """List what was sent, attempt by attempt, the latest first"""
    wish, terms = query.model_dump(by_alias=True), _terms(call)
    _check_attempt_query(terms, wish)
    webhook_id = None
    if wish.get("webhook") is not None:
        try:
            webhook_id = (
                await webhooks.of_contract(call.caller, call.dialect.name, **terms.ids.read(wish["webhook"]))
            ).id
        except NotFound:
            webhook_id = UUID(int=0)  # nobody's: a page without anything on it
    wanted = AttemptFilter(
        webhook_id=webhook_id,
        event_type=wish.get("event_type"),
        verdict=wish.get("verdict"),
        since=wish.get("since"),
        until=wish.get("until"),
        status_least=wish.get("status_least"),
        status_most=wish.get("status_most"),
    )
    limit = wish["limit"]
    found = await attempts.list_(call.caller, call.dialect.name, wanted, limit + 1, _uuid(wish.get("cursor"), "after"))
    shown = [ShownAttempt(terms.ids, one) for one in found[:limit]]
    return _answer(
        call, Listed(items=shown, total=None, limit=limit, next_cursor=shown[-1].id if len(found) > limit else None)
    )


async def get_attempt(call: Call, _: Nothing) -> Answer:
    """Get one of the attempts"""
    try:
        attempt_id = UUID(call.id)
    except ValueError:
        raise NotFound(call.id) from None
    sent = await attempts.get(call.caller, call.dialect.name, attempt_id)
    return _answer(call, ShownAttempt(_terms(call).ids, sent))


class ShownAttempt:
    """An attempt, in every word that a contract may have for it."""

    def __init__(self, ids: IdForm, sent: Sent) -> None:
        attempt, delivery = sent.attempt, sent.delivery
        self.itself = self
        self.id = str(attempt.id)
        self.webhook = ids.of(sent.webhook)
        self.event_id = encode(Prefix.EVENT, delivery.event_id)
        self.event_type = delivery.event_type
        self.url = attempt.request_url or sent.webhook.url
        self.number = attempt.number
        self.verdict = sent.verdict
        self.response_status = attempt.response_status
        self.response_time_ms = attempt.duration_us // 1000
        self.body_sha256 = None if sent.body is None else hashlib.sha256(sent.body).hexdigest()
        self.body_bytes = attempt.request_bytes
        excerpt = attempt.response_excerpt
        self.response_excerpt = None if excerpt is None else bytes(excerpt).decode(errors="replace")
        self.request_headers = dict(orjson.loads(attempt.request_headers or "[]"))
        self.error = attempt.error
        self.at = attempt.started_at


def _terms(call: Call) -> Terms:
    assert call.dialect.terms is not None  # noqa: S101 — these verbs are only on contracts' pages
    return call.dialect.terms


def _wish(given: BaseModel) -> dict[str, Any]:
    """What was given and nothing else, in the words of `Terms`."""
    return given.model_dump(by_alias=True, exclude_unset=True)


def _answer(call: Call, source: object, headers: dict[str, str] | None = None) -> Answer:
    """What the operation answers, its fields picked from the source."""
    model = call.operation.answers
    return Answer(None if model is None else model.model_validate(source, from_attributes=True), headers or {})


async def _found(call: Call) -> Webhook:
    return await webhooks.of_contract(call.caller, call.dialect.name, **_terms(call).ids.read(call.id))


async def _shown(call: Call, row: Webhook, secret: str | None = None, *, is_new: bool = False) -> Shown:
    if secret is None and _terms(call).secret_is_readable:
        secret = webhooks.readable_secret(call.caller, row)
    figures = {} if is_new else await _figures(call, [row])
    return Shown(call.dialect, row, secret, figures.get(row.id))


async def _all_shown(call: Call, rows: Sequence[Webhook]) -> list[Shown]:
    figures = await _figures(call, rows)
    is_readable = _terms(call).secret_is_readable
    return [
        Shown(
            call.dialect, row, webhooks.readable_secret(call.caller, row) if is_readable else None, figures.get(row.id)
        )
        for row in rows
    ]


async def _figures(call: Call, rows: Sequence[Webhook]) -> dict[UUID, DeliveryStats]:
    """None for a key that may change webhooks, but not read them."""
    if not _terms(call).shows_figures or Scope.WEBHOOKS_READ not in call.caller.scopes:
        return {}
    return await statistics.of_webhooks(call.caller, [row.id for row in rows], StatsWindow.MONTH)


async def _all(call: Call, wanted: WebhookFilter) -> list[Webhook]:
    rows: list[Webhook] = []
    after = None
    while True:
        page = await webhooks.list_(call.caller, wanted, PageRequest(first=MAX_SIZE, after=after))
        rows += page.items
        if not page.has_next_page:
            return rows
        after = page.cursor_of(page.items[-1])


def _is_wanted(row: Webhook, wish: dict[str, Any]) -> bool:
    fields = row.contract_fields or {}
    active = row.status == WebhookStatus.ENABLED
    return all(
        active == value if word == "active" else value in fields.get(word.removeprefix("fields."), ())
        for word, value in wish.items()
        if value is not None and (word == "active" or word.startswith("fields."))
    )


def _check_attempt_query(terms: Terms, wish: dict[str, Any]) -> None:
    event_type, least, most = wish.get("event_type"), wish.get("status_least"), wish.get("status_most")
    if event_type is not None and event_type != webhooks.TEST_EVENT_TYPE and not terms.events.knows(event_type):
        raise ValidationFailed.of("event_type", FieldErrorCode.UNKNOWN_EVENT_TYPE, "is not a known event type")
    if least is not None and most is not None and least > most:
        message = "must not be more than http_status_max"
        raise ValidationFailed.of("http_status_min", FieldErrorCode.OUT_OF_RANGE, message)


def _uuid(text: str | None, name: str) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise ValidationFailed.of(name, FieldErrorCode.INVALID_FORMAT, "is not a cursor of this list") from None
