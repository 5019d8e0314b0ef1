"""Webhooks: registering, changing, rotating, testing, finding them.

Whatever writes does so in one transaction with its organization's row locked, which also raises the organization's
version: publishers see the change before the next event. Wake-ups leave after the commit.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import Q
from tortoise.functions import Coalesce, Count, Max
from tortoise.queryset import QuerySet
from tortoise.transactions import in_transaction

from models import idempotency
from models.attempt import Attempt
from models.delivery import Delivery
from models.event_pattern import MAX_LENGTH, is_event_name, matches
from models.event_type import EventType
from models.ids import Prefix, encode, id_at, new_id
from models.ledger import LEASE_SLACK_MS, IdempotencyClaim, NewEvent, StoredEvent
from models.moment import from_ms, to_ms
from models.organization import Organization
from models.webhook import (
    DisabledReason,
    PayloadEnvelope,
    SignatureScheme,
    Webhook,
    WebhookHealth,
    WebhookStatus,
)
from resolvers import validation
from resolvers.caller import Caller, Scope
from resolvers.desk import Desk
from resolvers.errors import (
    FieldErrorCode,
    FieldProblem,
    IdempotencyConflict,
    LimitExceeded,
    NotFound,
    RateLimited,
    RevisionConflict,
    RotationInProgress,
    ValidationFailed,
)
from resolvers.inputs import (
    ContractChange,
    ContractDraft,
    ContractId,
    DeliveryDraft,
    PatternsPatch,
    SignatureDraft,
    WebhookChange,
    WebhookDraft,
    WebhookFilter,
)
from resolvers.lookup import containing, own
from resolvers.paging import Order, Page, PageRequest, page
from resolvers.unset import UNSET
from workers.announcements import Topic
from workers.envelopes import standard_body
from workers.retry_policy import DEFAULT_MAX_ATTEMPTS, DEFAULT_SCHEDULE_SECONDS
from workers.signing import default_header_of, new_secret
from workers.targets import context_of, target_of

DEFAULT_TIMEOUT_SECONDS = 15.0
MAX_OVERLAP_SECONDS = 7 * 24 * 3600
TEST_EVENT_TYPE = "webhook.test"
NATIVE = "native"
_CREATE = "createWebhook"


@dataclass(frozen=True, slots=True)
class WebhookOrder:
    """How a list of webhooks is ordered: CREATED_AT, UPDATED_AT or NAME."""

    field: str = "CREATED_AT"
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Created:
    """A new webhook. `secret` can be read this once; it is None on an idempotent repeat."""

    webhook: Webhook
    secret: str | None


@dataclass(frozen=True, slots=True)
class Deleted:
    webhook: Webhook
    canceled_deliveries: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """The new secret can be read this once."""

    webhook: Webhook
    secret: str
    previous_secret_expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Tested:
    delivery: Delivery
    attempt: Attempt


async def create(caller: Caller, draft: WebhookDraft) -> Created:
    """Registers a webhook. Raises ValidationFailed, LimitExceeded, IdempotencyConflict, Forbidden."""
    caller.require(Scope.WEBHOOKS_WRITE)
    desk = caller.desk
    webhook_id, now = _id_for(draft), desk.clock()
    claim = _claim(caller, draft, webhook_id) if draft.idempotency_key is not None else None
    await check_draft(caller, draft)
    async with _writing(caller) as (connection, organization):
        if claim is not None:
            earlier = await idempotency.take(connection, claim, now, desk.limits.idempotency_hours * 3_600_000)
            if earlier is not None:
                return Created(await _earlier(caller, connection, claim, earlier), secret=None)
        if draft.status is not WebhookStatus.DISABLED:
            await _check_limit(desk, organization, connection)
        created = drafted(caller, draft, webhook_id, now)
        if draft.contract is not None:
            await _put_contract_id(created.webhook, draft.contract, connection)
            await _check_unique(created.webhook, draft.contract.unique_by, connection)
        await created.webhook.save(using_db=connection, force_create=True)
        await WebhookHealth.create(using_db=connection, webhook_id=webhook_id)
    return created


def drafted(caller: Caller, draft: WebhookDraft, webhook_id: UUID, now: int) -> Created:
    """The webhook that a draft describes, defaults and a secret put in, not yet stored. The draft must be checked."""
    desk, moment = caller.desk, from_ms(now)
    signatures = draft.signatures or [SignatureDraft(SignatureScheme.STANDARD_WEBHOOKS)]
    contract = draft.contract or ContractDraft(NATIVE)
    secret = draft.secret or new_secret((s.scheme for s in signatures), contract.secret_prefix)
    disabled, since = draft.status is WebhookStatus.DISABLED, contract.created_at or moment
    webhook = Webhook(
        id=webhook_id,
        organization_id=caller.organization_id,
        url=draft.url,
        name=_cleared(draft.name),
        description=_cleared(draft.description),
        event_patterns=list(draft.event_patterns),
        api_version=draft.api_version or desk.api_versions[0],
        envelope=draft.envelope or PayloadEnvelope.STANDARD,
        signature_profiles=_profiles(signatures),
        timeout_ms=round(1000 * DEFAULT_TIMEOUT_SECONDS),
        max_attempts=DEFAULT_MAX_ATTEMPTS,
        retry_schedule=list(DEFAULT_SCHEDULE_SECONDS),
        metadata=draft.metadata,
        status=draft.status,
        disabled_reason=DisabledReason.MANUAL if disabled else None,
        disabled_at=moment if disabled else None,
        secret_created_at=contract.secret_created_at or since,
        created_at=since,
        updated_at=moment,
        contract=contract.name,
        contract_fields=contract.fields or None,
        disable_when_exhausted=contract.disable_when_exhausted,
    )
    _put_delivery_options(webhook, draft.delivery)
    _put_custom_headers(desk, webhook, draft.custom_headers or [])
    _put_secret(desk, webhook, secret)
    return Created(webhook, secret)


def _id_for(draft: WebhookDraft) -> UUID:
    """Lists are ordered by id, so what is brought along takes its place by the date that it brings."""
    brought = draft.contract.created_at if draft.contract is not None else None
    return new_id() if brought is None else id_at(to_ms(brought))


async def update(caller: Caller, id: str, change: WebhookChange, *, if_revision: int | None = None) -> Webhook:
    """Changes what is given. Raises ValidationFailed, NotFound, RevisionConflict, LimitExceeded, Forbidden."""
    caller.require(Scope.WEBHOOKS_WRITE)
    desk, now = caller.desk, caller.desk.clock()
    before = await get_for_writing(caller, id)
    await _check_change(caller, before, change)
    async with _writing(caller) as (connection, organization):
        webhook = await own(caller, _live(), Prefix.WEBHOOK, id, lock_on=connection)
        _check_revision(webhook, if_revision)
        was = webhook.status
        if change.event_patterns is not UNSET:
            webhook.event_patterns = _patched(webhook.event_patterns, change.event_patterns)
            await _check_patterns(caller, webhook.event_patterns, of_contract=change.contract is not None)
        for name in ("url", "api_version", "envelope", "metadata"):
            value = getattr(change, name)
            if value is not UNSET:
                setattr(webhook, name, value)
        for name in ("name", "description"):
            value = getattr(change, name)
            if value is not UNSET:
                setattr(webhook, name, _cleared(value))
        if change.delivery is not UNSET:
            _put_delivery_options(webhook, change.delivery)
        if change.signatures is not UNSET:
            webhook.signature_profiles = _profiles(change.signatures)
        if change.custom_headers is not UNSET:
            _put_custom_headers(desk, webhook, change.custom_headers)
        if change.contract is not None:
            _put_contract_change(desk, webhook, change.contract, now)
            await _check_unique(webhook, change.contract.unique_by, connection)
        if change.status is not UNSET:
            if was is WebhookStatus.DISABLED and change.status is not WebhookStatus.DISABLED:
                await _check_limit(desk, organization, connection)
            await _put_status(webhook, change.status, now, connection)
        await _save(webhook, now, connection)
        some_are_due = await _follow_status(desk, webhook, was, now, connection)
    if some_are_due:
        desk.wake([(webhook.id, webhook.organization_id)])
    return webhook


async def delete(caller: Caller, id: str, *, if_revision: int | None = None) -> Deleted:
    """Deletes a webhook and cancels what waits for it. Raises NotFound, RevisionConflict, Forbidden."""
    caller.require(Scope.WEBHOOKS_WRITE)
    now = caller.desk.clock()
    async with _writing(caller) as (connection, _):
        webhook = await own(caller, _live(), Prefix.WEBHOOK, id, lock_on=connection)
        _check_revision(webhook, if_revision)
        webhook.deleted_at = from_ms(now)
        webhook.secret = webhook.previous_secret = webhook.custom_headers = None
        await _save(webhook, now, connection)
        canceled = await caller.desk.ledger.cancel_waiting(webhook.id, now, within=connection)
    return Deleted(webhook, canceled)


async def rotate_secret(
    caller: Caller, id: str, *, secret: str | None = None, overlap_seconds: int = 86_400, force: bool = False
) -> Rotated:
    """Gives a webhook a new secret; the old one signs beside it until the overlap ends.

    Raises ValidationFailed, NotFound, RotationInProgress (unless `force`), Forbidden.
    """
    caller.require(Scope.WEBHOOKS_WRITE)
    desk, now = caller.desk, caller.desk.clock()
    if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
        message = f"must be 0 to {MAX_OVERLAP_SECONDS} seconds (7 days)"
        raise ValidationFailed.of("overlapSeconds", FieldErrorCode.OUT_OF_RANGE, message)
    async with _writing(caller) as (connection, _):
        webhook = await own(caller, _live(), Prefix.WEBHOOK, id, lock_on=connection)
        schemes = _schemes(webhook)
        _raise_if(validation.secret_problems(secret, schemes))
        open_until = webhook.previous_secret_expires_at
        if open_until is not None and to_ms(open_until) > now and not force:
            raise RotationInProgress(open_until)
        secret = secret or new_secret(schemes)
        expires = from_ms(now) + timedelta(seconds=overlap_seconds) if overlap_seconds else None
        webhook.previous_secret = webhook.secret if expires else None
        webhook.previous_secret_expires_at = expires
        webhook.secret_created_at = from_ms(now)
        _put_secret(desk, webhook, secret)
        await _save(webhook, now, connection)
    return Rotated(webhook, secret, expires)


async def rotate_all_secrets(caller: Caller, contract: str, secret: str) -> datetime:
    """Gives all webhooks of a contract one new secret, with no overlap. Answers since when. Raises Forbidden."""
    caller.require(Scope.ADMIN)
    desk, now = caller.desk, caller.desk.clock()
    async with _writing(caller) as (connection, _):
        rows = _live().filter(organization_id=caller.organization_id, contract=contract).using_db(connection)
        for webhook in await rows.select_for_update():
            _replace_secret(desk, webhook, secret, now)
            await _save(webhook, now, connection)
    return from_ms(now)


async def expire_previous_secret(caller: Caller, id: str) -> Webhook:
    """Ends a rotation's overlap now; does nothing when none is open. Raises NotFound, Forbidden."""
    caller.require(Scope.WEBHOOKS_WRITE)
    async with _writing(caller) as (connection, _):
        webhook = await own(caller, _live(), Prefix.WEBHOOK, id, lock_on=connection)
        if webhook.previous_secret is not None:
            webhook.previous_secret = webhook.previous_secret_expires_at = None
            await _save(webhook, caller.desk.clock(), connection)
    return webhook


async def test(caller: Caller, id: str, *, event_type: str | None = None, data: Any = None) -> Tested:
    """Sends a test event now, whatever the webhook's status, and waits for the receiver's answer.

    It is recorded as a delivery with trigger TEST, tried once, and counted in no statistics.
    Raises ValidationFailed, NotFound, RateLimited, Forbidden.
    """
    caller.require(Scope.WEBHOOKS_WRITE)
    desk = caller.desk
    webhook = await own(caller, _live(), Prefix.WEBHOOK, id)
    event = _test_event(caller, webhook, event_type, data)
    _count_test(webhook.id, desk.limits.tests_per_minute)
    target = target_of(webhook, desk.sealer)
    lease_until = desk.clock() + webhook.timeout_ms + LEASE_SLACK_MS
    claimed = await desk.ledger.append_test(event, new_id(), webhook.id, webhook.revision, lease_until)
    stored = StoredEvent(event.id, event.type, event.body, event.data_offset)
    settlement = await desk.courier.attempt(claimed, stored, target)
    settlement.gone = False  # a test informs; it turns nothing off
    await desk.ledger.settle([settlement], desk.clock(), failing_limit_ms=2**62)
    desk.announce(Topic.ATTEMPTS, [caller.organization_id])
    return Tested(await Delivery.get(id=claimed.id), await Attempt.get(id=settlement.attempt.id))


async def get(caller: Caller, id: str) -> Webhook:
    """Raises NotFound, Forbidden."""
    caller.require(Scope.WEBHOOKS_READ)
    return await own(caller, _live(), Prefix.WEBHOOK, id)


async def of_contract(
    caller: Caller, contract: str, *, id: UUID | None = None, contract_id: str | None = None, number: int | None = None
) -> Webhook:
    """The webhook that a contract's callers know by one of these ids; an id it was brought along with comes first.

    For callers who may read webhooks, or change them. Raises NotFound, Forbidden.
    """
    if Scope.WEBHOOKS_WRITE not in caller.scopes:
        caller.require(Scope.WEBHOOKS_READ)
    rows = _live().filter(organization_id=caller.organization_id, contract=contract)
    found = None
    if contract_id is not None and validation.is_storable(contract_id):
        found = await rows.filter(contract_id=contract_id).first()
    if found is None and number is not None and abs(number) < 2**63:
        found = await rows.filter(number=number).first()
    if found is None and id is not None:
        found = await rows.filter(id=id, contract_id__isnull=True).first() or await rows.filter(id=id).first()
    if found is None:
        raise NotFound(contract_id or str(number if number is not None else id))
    return found


def readable_secret(caller: Caller, webhook: Webhook) -> str:
    """The secret that signs now, for contracts that always show it to those who may read webhooks, or change them."""
    if Scope.WEBHOOKS_WRITE not in caller.scopes:
        caller.require(Scope.WEBHOOKS_READ)
    return target_of(webhook, caller.desk.sealer).secret


async def get_for_writing(caller: Caller, id: str) -> Webhook:
    """The webhook as it stands, for somebody who may change it. Raises NotFound, Forbidden."""
    caller.require(Scope.WEBHOOKS_WRITE)
    return await own(caller, _live(), Prefix.WEBHOOK, id)


async def list_(
    caller: Caller,
    filter: WebhookFilter,
    request: PageRequest,
    order: WebhookOrder = WebhookOrder(),
) -> Page[Webhook]:
    """One page of the organization's webhooks. Raises ValidationFailed for the page's arguments, Forbidden."""
    caller.require(Scope.WEBHOOKS_READ)
    query = await _filtered(caller, filter)
    column = {"CREATED_AT": "id", "UPDATED_AT": "updated_at", "NAME": "sort_name"}[order.field]
    if column == "sort_name":
        query = query.annotate(sort_name=Coalesce("name", ""))
    return await page(query, request, Order(column, order.descending))


async def count(caller: Caller, filter: WebhookFilter) -> int:
    """How many webhooks a filter finds."""
    caller.require(Scope.WEBHOOKS_READ)
    return await (await _filtered(caller, filter)).count()


async def by_ids(caller: Caller, ids: Sequence[UUID]) -> dict[UUID, Webhook]:
    """Those of them that are the caller's and not deleted."""
    caller.require(Scope.WEBHOOKS_READ)
    rows = await _live().filter(id__in=list(ids), organization_id=caller.organization_id)
    return {row.id: row for row in rows}


async def counts_by_organization(organizations: Sequence[UUID]) -> dict[UUID, int]:
    """How many webhooks each organization has."""
    rows = (
        await _live()
        .filter(organization_id__in=list(organizations))
        .annotate(n=Count("id"))
        .group_by("organization_id")
        .values_list("organization_id", "n")
    )
    return dict.fromkeys(organizations, 0) | {row[0]: row[1] for row in rows}


def _live() -> QuerySet[Webhook]:
    return Webhook.filter(deleted_at__isnull=True)


async def _filtered(caller: Caller, filter: WebhookFilter) -> QuerySet[Webhook]:
    query = _live().filter(organization_id=caller.organization_id)
    if filter.contract is not None:
        query = query.filter(contract=filter.contract)
    if filter.status is not None:
        query = query.filter(status__in=list(filter.status))
    if filter.name_contains:
        query = containing(query, "name", filter.name_contains)
    if filter.url_contains:
        query = containing(query, "url", filter.url_contains)
    if filter.matches_event_type is not None:
        # Patterns are matched here: SQLite has no JSON operators in Tortoise, and an organization has few webhooks.
        rows = await query.values_list("id", "event_patterns")
        wanted = [row[0] for row in rows if any(matches(p, filter.matches_event_type) for p in row[1])]
        query = query.filter(id__in=wanted)
    if filter.failing is not None:
        ids = await query.values_list("id", flat=True)
        failing = await WebhookHealth.filter(webhook_id__in=list(ids), last_delivery_failed=True).values_list(
            "webhook_id", flat=True
        )
        query = query.filter(Q(id__in=list(failing)) if filter.failing else ~Q(id__in=list(failing)))
    return query


@asynccontextmanager
async def _writing(caller: Caller) -> AsyncIterator[tuple[BaseDBAsyncClient, Organization]]:
    """A transaction that holds the organization's row, and raises its version."""
    async with in_transaction() as connection:
        rows = Organization.filter(id=caller.organization_id, deleted_at__isnull=True)
        organization = await rows.using_db(connection).select_for_update().first()
        if organization is None:
            raise NotFound(encode(Prefix.ORGANIZATION, caller.organization_id))
        yield connection, organization
        organization.version += 1
        await organization.save(using_db=connection, update_fields=["version"])
    caller.desk.announce(Topic.WEBHOOKS, [caller.organization_id])


async def _save(webhook: Webhook, now: int, connection: BaseDBAsyncClient) -> None:
    webhook.revision += 1
    webhook.updated_at = from_ms(now)
    await webhook.save(using_db=connection)


def _raise_if(problems: Iterable[FieldProblem]) -> None:
    found = list(problems)
    if found:
        raise ValidationFailed(found)


async def check_draft(caller: Caller, draft: WebhookDraft) -> None:
    """Raises ValidationFailed with all that is wrong with a draft."""
    desk = caller.desk
    signatures = draft.signatures
    schemes = [s.scheme for s in signatures or [SignatureDraft(SignatureScheme.STANDARD_WEBHOOKS)]]
    profiles = _profiles(signatures or [])
    problems = await validation.url_problems(desk, draft.url)
    of_contract = draft.contract is not None
    catalogue = [] if of_contract else await _catalogue(caller)
    problems += validation.pattern_problems(
        draft.event_patterns, catalogue, desk.limits.max_event_patterns, opaque=of_contract
    )
    problems += validation.text_problems("name", draft.name, validation.MAX_NAME)
    problems += validation.text_problems("description", draft.description, validation.MAX_DESCRIPTION)
    problems += validation.api_version_problems(draft.api_version, desk.api_versions)
    problems += validation.delivery_problems(draft.delivery)
    if signatures is not None:
        problems += validation.signature_problems(signatures)
    problems += validation.secret_problems(draft.secret, schemes, of_contract=of_contract)
    problems += validation.header_problems(draft.custom_headers or [], [p["header_name"] for p in profiles])
    problems += validation.metadata_problems(draft.metadata)
    problems += validation.idempotency_key_problems(draft.idempotency_key)
    if draft.contract is not None:
        problems += validation.contract_field_problems(draft.contract.fields)
    _raise_if(problems)


async def _check_change(caller: Caller, webhook: Webhook, change: WebhookChange) -> None:
    """Every rule but that of the patterns, which is checked on the patched set, under the lock."""
    desk = caller.desk
    problems: list[FieldProblem] = []
    if change.url is not UNSET:
        problems += await validation.url_problems(desk, change.url)
    if change.name is not UNSET:
        problems += validation.text_problems("name", change.name, validation.MAX_NAME)
    if change.description is not UNSET:
        problems += validation.text_problems("description", change.description, validation.MAX_DESCRIPTION)
    if change.api_version is not UNSET:
        problems += validation.api_version_problems(change.api_version, desk.api_versions)
    if change.delivery is not UNSET:
        problems += validation.delivery_problems(change.delivery)
    if change.signatures is not UNSET:
        problems += validation.signature_problems(change.signatures)
        problems += _secret_fit_problems(desk, webhook, change.signatures)
        if change.custom_headers is UNSET:
            problems += _header_fit_problems(webhook, change.signatures)
    if change.custom_headers is not UNSET:
        profiles = webhook.signature_profiles if change.signatures is UNSET else _profiles(change.signatures)
        problems += validation.header_problems(change.custom_headers, [p["header_name"] for p in profiles])
    if change.metadata is not UNSET:
        problems += validation.metadata_problems(change.metadata)
    if change.contract is not None:
        problems += validation.secret_problems(change.contract.secret, _schemes(webhook), of_contract=True)
        problems += validation.contract_field_problems(change.contract.fields)
    _raise_if(problems)


def _secret_fit_problems(desk: Desk, webhook: Webhook, signatures: Sequence[SignatureDraft]) -> Iterable[FieldProblem]:
    """Each scheme wants secrets of its own kind, and those that sign now must be of it."""
    target = target_of(webhook, desk.sealer)
    schemes = {s.scheme for s in signatures}
    if any([*validation.secret_problems(key, schemes)] for key in target.keys_at(desk.clock())):
        message = "the webhook's secret is of another kind; rotate to one that fits these schemes"
        yield FieldProblem(("signatures",), FieldErrorCode.INVALID_FORMAT, message)


def _header_fit_problems(webhook: Webhook, signatures: Sequence[SignatureDraft]) -> Iterable[FieldProblem]:
    """A signature cannot take a header that the webhook's custom headers have."""
    taken = {name.lower() for name in webhook.custom_header_names}
    for i, profile in enumerate(_profiles(signatures)):
        if profile["header_name"].lower() in taken:
            path = ("signatures", str(i), "headerName")
            yield FieldProblem(path, FieldErrorCode.DUPLICATE, "one of the custom headers has this name")


async def _check_patterns(caller: Caller, patterns: Sequence[str], *, of_contract: bool) -> None:
    """A contract has a catalogue of its own, which its door has asked."""
    catalogue, most = [] if of_contract else await _catalogue(caller), caller.desk.limits.max_event_patterns
    _raise_if(validation.pattern_problems(patterns, catalogue, most, opaque=of_contract))


async def _catalogue(caller: Caller) -> list[str]:
    names = await EventType.filter(organization_id=caller.organization_id).values_list("name", flat=True)
    return [str(name) for name in names]


async def _check_limit(desk: Desk, organization: Organization, connection: BaseDBAsyncClient) -> None:
    most = organization.max_webhooks if organization.max_webhooks is not None else desk.limits.max_webhooks
    rows = _live().filter(organization_id=organization.id, status__not=WebhookStatus.DISABLED)
    if await rows.using_db(connection).count() >= most:
        raise LimitExceeded(f"webhook limit reached (max {most}); delete or disable one first", most)


def _check_revision(webhook: Webhook, if_revision: int | None) -> None:
    if if_revision is not None and if_revision != webhook.revision:
        raise RevisionConflict(webhook)


def _patched(patterns: Sequence[str], patch: PatternsPatch) -> list[str]:
    if patch.replace is not None:
        return list(patch.replace)
    if patch.add is not None:
        return [*patterns, *(p for p in patch.add if p not in patterns)]
    removed = set(patch.remove or ())
    return [p for p in patterns if p not in removed]


def _profiles(signatures: Sequence[SignatureDraft]) -> list[dict[str, str]]:
    return [{"scheme": str(s.scheme), "header_name": s.header_name or default_header_of(s.scheme)} for s in signatures]


def _schemes(webhook: Webhook) -> list[SignatureScheme]:
    return [SignatureScheme(profile["scheme"]) for profile in webhook.signature_profiles]


def _cleared(text: str | None) -> Any:
    """Text that is empty but for white space is none."""
    return text if text is not None and text.strip() else None


def _put_delivery_options(webhook: Webhook, draft: DeliveryDraft) -> None:
    if draft.timeout_seconds is not None:
        webhook.timeout_ms = round(1000 * draft.timeout_seconds)
    if draft.retry_schedule_seconds is not None:
        webhook.retry_schedule = list(draft.retry_schedule_seconds)
        if draft.max_attempts is None:
            webhook.max_attempts = len(draft.retry_schedule_seconds) + 1
    if draft.max_attempts is not None:
        webhook.max_attempts = draft.max_attempts
    if draft.max_per_second is not UNSET:
        webhook.max_per_second = draft.max_per_second


def _put_custom_headers(desk: Desk, webhook: Webhook, headers: Sequence[tuple[str, str]]) -> None:
    webhook.custom_header_names = [name for name, _ in headers]
    sealed = desk.sealer.seal(orjson.dumps(headers), context_of(webhook.id, "custom_headers")) if headers else None
    webhook.custom_headers = sealed


def _put_secret(desk: Desk, webhook: Webhook, secret: str) -> None:
    webhook.secret = desk.sealer.seal(secret.encode(), context_of(webhook.id, "secret"))
    webhook.secret_hint = secret[len(secret) - min(4, len(secret) // 4) :]  # of a short one, less may be told


def _replace_secret(desk: Desk, webhook: Webhook, secret: str, now: int) -> None:
    """With no overlap: the former one is gone at once."""
    webhook.previous_secret = webhook.previous_secret_expires_at = None
    webhook.secret_created_at = from_ms(now)
    _put_secret(desk, webhook, secret)


async def _put_contract_id(webhook: Webhook, draft: ContractDraft, connection: BaseDBAsyncClient) -> None:
    """Under the organization's lock, so that no id is given twice. Raises ValidationFailed for one that is taken."""
    rows = Webhook.filter(organization_id=webhook.organization_id).using_db(connection)
    if isinstance(draft.id, int):
        webhook.number = draft.id
        is_taken = await rows.filter(number=draft.id).exists()
    elif draft.id is not None:
        webhook.contract_id = draft.id
        is_taken = await rows.filter(contract_id=draft.id, contract=draft.name, deleted_at__isnull=True).exists()
    else:
        is_taken = False
        if draft.id_kind is ContractId.OBJECT_ID:
            webhook.contract_id = f"{int(webhook.created_at.timestamp()):08x}{webhook.id.hex[16:]}"
        elif draft.id_kind is ContractId.NUMBER:
            [highest] = await rows.annotate(highest=Max("number")).values_list("highest", flat=True)
            webhook.number = 1 + (highest or 0)  # type: ignore[operator]
    if is_taken:
        raise ValidationFailed.of("id", FieldErrorCode.DUPLICATE, "has already been taken")


def _put_contract_change(desk: Desk, webhook: Webhook, change: ContractChange, now: int) -> None:
    fields = dict(webhook.contract_fields or {})
    for name, value in change.fields.items():
        key = name.lstrip("+-")
        if name.startswith("+"):
            value = [*fields.get(key, ()), *(item for item in value if item not in fields.get(key, ()))]
        elif name.startswith("-"):
            value = [item for item in fields.get(key, ()) if item not in value]
        fields[key] = value
    webhook.contract_fields = {name: value for name, value in fields.items() if value is not None} or None
    if change.secret is not None:
        _replace_secret(desk, webhook, change.secret, now)


async def _check_unique(webhook: Webhook, columns: Sequence[str], connection: BaseDBAsyncClient) -> None:
    """Under the organization's lock. Raises ValidationFailed, naming the first of the columns."""
    if not columns:
        return
    rows = _live().filter(organization_id=webhook.organization_id, contract=webhook.contract)
    wanted = _values(webhook, columns)
    if any(_values(other, columns) == wanted for other in await rows.using_db(connection).exclude(id=webhook.id)):
        path = {"event_patterns": "eventPatterns"}.get(columns[0], columns[0])
        raise ValidationFailed.of(path, FieldErrorCode.DUPLICATE, "has already been taken")


def _values(webhook: Webhook, columns: Sequence[str]) -> list[Any]:
    fields = webhook.contract_fields or {}
    prefix = "contract_fields."
    return [fields.get(c.removeprefix(prefix)) if c.startswith(prefix) else getattr(webhook, c) for c in columns]


async def _put_status(webhook: Webhook, status: WebhookStatus, now: int, connection: BaseDBAsyncClient) -> None:
    if status is WebhookStatus.DISABLED and webhook.status is not WebhookStatus.DISABLED:
        webhook.disabled_reason, webhook.disabled_at = DisabledReason.MANUAL, from_ms(now)
    elif status is not WebhookStatus.DISABLED:
        webhook.disabled_reason = webhook.disabled_at = None  # type: ignore[assignment]
    if status is WebhookStatus.ENABLED and webhook.status is not WebhookStatus.ENABLED:
        # A fresh start: the failures of before must not turn it off again with the first new one.
        await (
            WebhookHealth.filter(webhook_id=webhook.id)
            .using_db(connection)
            .update(consecutive_failures=0, failing_since=None)
        )
    webhook.status = status


async def _follow_status(
    desk: Desk, webhook: Webhook, was: WebhookStatus, now: int, connection: BaseDBAsyncClient
) -> bool:
    """What a change of status means for the deliveries that wait, in the transaction that changes it.

    Whether some are due now.
    """
    match webhook.status:
        case WebhookStatus.ENABLED if was is not WebhookStatus.ENABLED:
            return await desk.ledger.unpark(webhook.id, now, within=connection) > 0
        case WebhookStatus.PAUSED if was is WebhookStatus.ENABLED:
            await desk.ledger.park(webhook.id, within=connection)
        case WebhookStatus.DISABLED if was is not WebhookStatus.DISABLED:
            await desk.ledger.cancel_waiting(webhook.id, now, within=connection)
    return False


def _claim(caller: Caller, draft: WebhookDraft, webhook_id: UUID) -> IdempotencyClaim:
    asked = repr([getattr(draft, name) for name in draft.__slots__ if name != "idempotency_key"])
    digest = hashlib.sha256(asked.encode(errors="surrogatepass")).digest()
    return IdempotencyClaim(caller.organization_id, _CREATE, draft.idempotency_key or "", digest, webhook_id)


async def _earlier(caller: Caller, connection: BaseDBAsyncClient, claim: IdempotencyClaim, earlier: Any) -> Webhook:
    """What the key's first use made. Raises IdempotencyConflict when that was another request, or is deleted."""
    webhook = (
        await Webhook.filter(id=earlier.result_id, organization_id=caller.organization_id, deleted_at__isnull=True)
        .using_db(connection)
        .first()
    )
    if webhook is None or earlier.request_digest != claim.request_digest:
        raise IdempotencyConflict
    return webhook


def _test_event(caller: Caller, webhook: Webhook, event_type: str | None, data: Any) -> NewEvent:
    name = event_type if event_type is not None else TEST_EVENT_TYPE
    problems = []
    if not is_event_name(name):
        message = f"must be an event type of at most {MAX_LENGTH} characters, such as order.created"
        problems.append(FieldProblem(("eventType",), FieldErrorCode.INVALID_FORMAT, message))
    if data is None:
        data = {"message": "This is a test from Hookline.", "webhookId": encode(Prefix.WEBHOOK, webhook.id)}
    encoded = validation.as_json(data)
    if encoded is None:
        problems.append(FieldProblem(("data",), FieldErrorCode.INVALID_FORMAT, "cannot be written as JSON"))
    elif len(encoded) > caller.desk.limits.max_payload_bytes:
        message = f"must be at most {caller.desk.limits.max_payload_bytes} bytes as JSON"
        problems.append(FieldProblem(("data",), FieldErrorCode.TOO_LARGE, message))
    if problems or encoded is None:
        raise ValidationFailed(problems)
    now = caller.desk.clock()
    body, offset = standard_body(name, from_ms(now), encoded)
    return NewEvent(new_id(), caller.organization_id, name, now, now, body, offset)


@dataclass(slots=True)
class _Recent:
    times: list[float] = field(default_factory=list)


_recent_tests: dict[UUID, _Recent] = {}


def _count_test(webhook_id: UUID, most: int) -> None:
    """At most so many tests of one webhook a minute, in this process: a test is a request that a caller can aim."""
    now = time.monotonic()
    for known in [k for k, v in _recent_tests.items() if v.times[-1] < now - 60]:
        del _recent_tests[known]
    recent = _recent_tests.setdefault(webhook_id, _Recent())
    recent.times = [t for t in recent.times if t > now - 60]
    if len(recent.times) >= most:
        raise RateLimited(f"at most {most} tests of a webhook a minute", round(60 - (now - recent.times[0]), 1))
    recent.times.append(now)
