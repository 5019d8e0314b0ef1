"""Webhooks of an old API, brought along for the operator: with their ids, secrets, states and dates."""

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tortoise.transactions import in_transaction

from models.api_key import ApiKey
from models.ids import Prefix, encode, new_id
from models.moment import from_ms, to_ms
from models.organization import Organization
from models.sealing import CannotUnseal
from models.webhook import Webhook
from resolvers import organizations, webhooks
from resolvers.caller import ORDINARY, Caller
from resolvers.desk import Desk
from resolvers.errors import FieldErrorCode, FieldProblem, NotFound, ValidationFailed
from resolvers.inputs import ContractDraft, WebhookDraft
from workers.targets import target_of

MAX_ID = 64
_SECOND = 1000
_CLOCKS_DIFFER_MS = 3600 * _SECOND


class Fate(StrEnum):
    """What became of a webhook that was to be brought along."""

    IMPORTED = "imported"
    """It is here now."""
    KNOWN = "known"
    """It had been brought along before, and is left as it is here."""
    DELETED = "deleted"
    """It had been brought along before and was deleted here since: it does not come back."""


@dataclass(frozen=True, slots=True)
class Brought:
    """`secret` is one that was made here, readable this once; None when it brought its own, or was here before."""

    webhook: Webhook
    fate: Fate
    secret: str | None


class _Undone(Exception):
    """Ends a transaction whose work was wanted only to see whether it could be done."""


def on_behalf_of(desk: Desk, organization: Organization, contract: str) -> Caller:
    """The operator, acting as a caller of an organization. Nothing of this caller is stored."""
    described = ApiKey(
        id=new_id(),
        organization_id=organization.id,
        name="import",
        prefix="",
        scopes=["*"],
        contract=contract,
        created_at=from_ms(desk.clock()),
    )
    return Caller(desk, organization.id, described, ORDINARY, contract)


async def owner_of(reference: str) -> Organization:
    """The organization that an old API names: by our id, its UUID alone, or an external id. Raises NotFound."""
    try:
        return await organizations.known(reference)
    except NotFound:
        with suppress(ValueError):
            return await organizations.known(encode(Prefix.ORGANIZATION, UUID(reference)))
        raise


async def bring(caller: Caller, draft: WebhookDraft, *, dry: bool = False) -> Brought:
    """Registers a webhook under the id that its callers know; repeated, it changes nothing.

    Dry, it does so and takes it back. Raises ValidationFailed, LimitExceeded.
    """
    contract = draft.contract
    if contract is None or contract.id is None:
        raise ValidationFailed.of("id", FieldErrorCode.REQUIRED, "is required")
    _check(caller.desk, contract)
    before = await _brought_before(caller, contract)
    if before is not None:
        return Brought(before, Fate.KNOWN if before.deleted_at is None else Fate.DELETED, None)
    created = await (_tried(caller, draft) if dry else webhooks.create(caller, draft))
    return Brought(created.webhook, Fate.IMPORTED, created.secret if draft.secret is None else None)


async def _tried(caller: Caller, draft: WebhookDraft) -> webhooks.Created:
    await webhooks.check_draft(caller, draft)  # beforehand: no transaction is to wait for a name server
    with suppress(_Undone):
        async with in_transaction():
            created = await webhooks.create(caller, draft)
            raise _Undone
    return created


async def opens_what_is_sealed(desk: Desk) -> bool:
    """Whether this process has the master key that secrets were sealed with so far."""
    sealed = await Webhook.filter(secret__isnull=False).order_by("-id").first()
    if sealed is None:
        return True
    try:
        target_of(sealed, desk.sealer)
    except CannotUnseal:
        return False
    return True


async def _brought_before(caller: Caller, contract: ContractDraft) -> Webhook | None:
    rows = Webhook.filter(organization_id=caller.organization_id, contract=contract.name)
    known = {"number": contract.id} if isinstance(contract.id, int) else {"contract_id": contract.id}
    return await rows.filter(**known).order_by("-id").first()


def _check(desk: Desk, contract: ContractDraft) -> None:
    problems = []
    match contract.id:
        case int(number) if not 0 < number < 2**63:
            problems.append(FieldProblem(("id",), FieldErrorCode.OUT_OF_RANGE, "must be a positive number of 63 bits"))
        case str(text) if not 1 <= len(text) <= MAX_ID or not text.isascii() or not text.isprintable() or "/" in text:
            message = f"must be 1 to {MAX_ID} characters of printable ASCII, and no slash: it stands in paths"
            problems.append(FieldProblem(("id",), FieldErrorCode.INVALID_FORMAT, message))
    since = contract.created_at
    if since is not None and not (since.tzinfo and 0 <= to_ms(since) <= desk.clock() + _CLOCKS_DIFFER_MS):
        message = "must be a moment in the past, with its zone"
        problems.append(FieldProblem(("createdAt",), FieldErrorCode.OUT_OF_RANGE, message))
    if problems:
        raise ValidationFailed(problems)
