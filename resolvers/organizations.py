"""Organizations: the tenants. A platform key makes them, ends them, and acts for any of them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from tortoise.exceptions import IntegrityError
from tortoise.queryset import QuerySet

from models.delivery import Delivery
from models.ids import Prefix, decode, encode, new_id
from models.moment import from_ms, now_ms
from models.organization import Organization
from models.webhook import Webhook
from resolvers import validation
from resolvers.caller import Caller, Scope
from resolvers.desk import Desk, Limits
from resolvers.errors import FieldErrorCode, FieldProblem, Forbidden, NotFound, ValidationFailed
from resolvers.lookup import containing, one_of
from resolvers.paging import Page, PageRequest, page
from resolvers.unset import UNSET, Unset

MAX_NAME = 200
MAX_EXTERNAL_ID = 200
MAX_WEBHOOKS = 10_000
_STAFF_ID = re.compile("org_[0-9a-hjkmnp-tv-z]{26}")  # Factify's own pattern


async def act_for(caller: Caller, reference: str) -> Caller:
    """The caller, acting for another organization, named by its id or its external id.

    Raises Forbidden unless the key has the scope `platform`, and then NotFound.
    """
    caller.require(Scope.PLATFORM)
    return caller.acting_for((await known(reference)).id)


async def act_for_as_staff(caller: Caller, id: str, staff_domain: str | None) -> Caller:
    """The caller, acting for another organization, for those whose key belongs to an e-mail address of this domain.

    Raises Forbidden for anybody else, then ValidationFailed for what is no id, and NotFound.
    """
    if staff_domain is None or not caller.is_staff_of(staff_domain):
        raise Forbidden([], "only staff may act for another organization")
    if not _STAFF_ID.fullmatch(id):
        message = "must be an organization's id: org_ and 26 of 0-9 and a-z without i, l, o and u"
        raise ValidationFailed.of("organizationId", FieldErrorCode.INVALID_FORMAT, message)
    organization = await _live().filter(id=decode(Prefix.ORGANIZATION, id)).first()
    if organization is None:
        raise NotFound(id)
    return caller.acting_for(organization.id)


async def known(reference: str) -> Organization:
    """For a door that has proven whom it serves: the organization with this id or external id. Raises NotFound."""
    organization = await _named(reference).first()
    if organization is None:
        raise NotFound(reference)
    return organization


async def own(caller: Caller) -> Organization:
    """The organization that the caller acts for."""
    return await Organization.get(id=caller.organization_id)


async def get(caller: Caller, *, id: str | None = None, external_id: str | None = None) -> Organization:
    """By one of the two names. Raises ValidationFailed for both or none, NotFound, Forbidden."""
    caller.require(Scope.PLATFORM)
    if (id is None) == (external_id is None):
        raise ValidationFailed.of("id", FieldErrorCode.REQUIRED, "give `id` or `externalId`, and only one of them")
    if external_id is not None:
        organization = await one_of(_live(), "external_id", [external_id]).first()
    else:
        organization = await _live().filter(id=decode(Prefix.ORGANIZATION, id or "")).first()
    if organization is None:
        raise NotFound(id or external_id or "")
    return organization


async def by_ids(caller: Caller, ids: Sequence[UUID]) -> dict[UUID, Organization]:
    """Those of them that exist. Raises Forbidden."""
    caller.require(Scope.PLATFORM)
    return {row.id: row for row in await _live().filter(id__in=list(ids))}


async def list_(caller: Caller, request: PageRequest, name_contains: str | None = None) -> Page[Organization]:
    """One page of all organizations, the latest first. Raises ValidationFailed, Forbidden."""
    caller.require(Scope.PLATFORM)
    return await page(_containing(name_contains), request)


async def count(caller: Caller, name_contains: str | None = None) -> int:
    """How many organizations there are."""
    caller.require(Scope.PLATFORM)
    return await _containing(name_contains).count()


async def create(
    caller: Caller, *, name: str, external_id: str | None = None, max_webhooks: int | None = None
) -> tuple[Organization, bool]:
    """A new organization; or, when the external id is taken, the one that has it, and False: safe to repeat.

    Raises ValidationFailed, Forbidden.
    """
    caller.require(Scope.PLATFORM)
    return await _created(name, external_id, max_webhooks)


async def update(
    caller: Caller,
    id: str,
    *,
    name: str | Unset = UNSET,
    external_id: str | Unset | None = UNSET,
    max_webhooks: int | Unset | None = UNSET,
) -> Organization:
    """Changes what is given. Raises ValidationFailed, NotFound, Forbidden."""
    caller.require(Scope.PLATFORM)
    problems = list(
        _problems(
            None if name is UNSET else name,
            None if external_id is UNSET else external_id,
            None if max_webhooks is UNSET else max_webhooks,
        )
    )
    if problems:
        raise ValidationFailed(problems)
    organization = await get(caller, id=id)
    given = {"name": name, "external_id": external_id, "max_webhooks": max_webhooks}
    changed = {field: value for field, value in given.items() if value is not UNSET}
    if changed:
        try:
            await organization.update_from_dict(changed).save(update_fields=list(changed))
        except IntegrityError as error:
            raise ValidationFailed.of("externalId", FieldErrorCode.DUPLICATE, "is taken") from error
    return organization


async def delete(caller: Caller, id: str) -> Organization:
    """Ends an organization: its keys stop at once, what waits is canceled. Raises NotFound, Forbidden."""
    caller.require(Scope.PLATFORM)
    organization = await get(caller, id=id)
    now = caller.desk.clock()
    organization.deleted_at = from_ms(now)
    organization.external_id = None
    organization.version += 1
    await organization.save(update_fields=["deleted_at", "external_id", "version"])
    await end_webhooks_of(caller.desk, organization.id)
    return organization


async def end_webhooks_of(desk: Desk, organization_id: UUID) -> None:
    """Deletes a deleted organization's webhooks and cancels what waits for them. Safe to repeat."""
    now = desk.clock()
    await Webhook.filter(organization_id=organization_id, deleted_at__isnull=True).update(
        deleted_at=from_ms(now), secret=None, previous_secret=None, custom_headers=None
    )
    waiting = Delivery.filter(organization_id=organization_id, completed_at__isnull=True)
    for webhook_id in await waiting.distinct().values_list("webhook_id", flat=True):
        await desk.ledger.cancel_waiting(UUID(str(webhook_id)), now)


def limits_of(desk: Desk, organization: Organization) -> Limits:
    """The server's limits, with the organization's own in their place."""
    if organization.max_webhooks is None:
        return desk.limits
    return replace(desk.limits, max_webhooks=organization.max_webhooks)


async def create_named(name: str, external_id: str | None = None, id: str | None = None) -> Organization:
    """For the operator. `id`: one that its callers know already, as `org_…` or as a UUID.

    Raises ValidationFailed, also for an id that is or was another's, and for an external id that is taken.
    """
    wanted = None if id is None else _id_in(id)
    if wanted is not None and await Organization.filter(id=wanted).exists():
        raise ValidationFailed.of("id", FieldErrorCode.DUPLICATE, "is or was another organization's")
    organization, created = await _created(name, external_id, None, wanted)
    if not created:
        message = f"is taken by {organization.name} ({encode(Prefix.ORGANIZATION, organization.id)})"
        raise ValidationFailed.of("externalId", FieldErrorCode.DUPLICATE, message)
    return organization


async def find(reference: str) -> Organization | None:
    """For the operator: by id, external id, or a name that only one organization bears.

    Raises ValidationFailed for a name that several bear.
    """
    organization = await _named(reference).first()
    if organization is not None:
        return organization
    namesakes = await one_of(_live(), "name", [reference]).limit(2)
    if len(namesakes) > 1:
        message = f"several organizations are called {reference}; give the id (org_…)"
        raise ValidationFailed.of("organization", FieldErrorCode.DUPLICATE, message)
    return namesakes[0] if namesakes else None


async def list_all() -> list[Organization]:
    """For the operator: every organization, the oldest first."""
    return await _live().order_by("id")


def _live() -> QuerySet[Organization]:
    return Organization.filter(deleted_at__isnull=True)


def _named(reference: str) -> QuerySet[Organization]:
    """By id or external id. What looks like an id is one: an external id cannot pose as another's id."""
    organization_id = decode(Prefix.ORGANIZATION, reference)
    return (
        one_of(_live(), "external_id", [reference]) if organization_id is None else _live().filter(id=organization_id)
    )


def _containing(name_contains: str | None) -> QuerySet[Organization]:
    return containing(_live(), "name", name_contains) if name_contains else _live()


def _id_in(text: str) -> UUID:
    try:
        return decode(Prefix.ORGANIZATION, text) or UUID(text)
    except ValueError:
        message = "must be like org_01h2xcejqtf2nbrexx3vqjhp41, or a UUID"
        raise ValidationFailed.of("id", FieldErrorCode.INVALID_FORMAT, message) from None


async def _created(
    name: str, external_id: str | None, max_webhooks: int | None, id: UUID | None = None
) -> tuple[Organization, bool]:
    problems = list(_problems(name, external_id, max_webhooks))
    if problems:
        raise ValidationFailed(problems)
    if external_id is not None and (known := await _live().filter(external_id=external_id).first()):
        return known, False
    try:
        return await Organization.create(
            id=id or new_id(),
            name=name,
            external_id=external_id,
            max_webhooks=max_webhooks,
            created_at=from_ms(now_ms()),
        ), True
    except IntegrityError:  # somebody else made it between the look and the leap
        return await _live().get(external_id=external_id), False


def _problems(name: str | None, external_id: str | None, max_webhooks: int | None) -> validation.Problems:
    if name is not None and not name.strip():
        yield FieldProblem(("name",), FieldErrorCode.REQUIRED, "must not be empty")
    yield from validation.text_problems("name", name, MAX_NAME)
    yield from validation.text_problems("externalId", external_id, MAX_EXTERNAL_ID)
    if external_id is not None and (not external_id.strip() or decode(Prefix.ORGANIZATION, external_id)):
        message = "must be a name of your own, not empty and not an id of ours"
        yield FieldProblem(("externalId",), FieldErrorCode.INVALID_FORMAT, message)
    if max_webhooks is not None and not 0 <= max_webhooks <= MAX_WEBHOOKS:
        yield FieldProblem(("maxWebhooks",), FieldErrorCode.OUT_OF_RANGE, f"must be 0 to {MAX_WEBHOOKS}")
