"""Bringing webhooks along from an old API, as its own answers show them."""

from typing import Any

from app.rest import reading
from app.rest.contract import Terms
from app.rest.dialect import Dialect
from resolvers.errors import FieldErrorCode, ValidationFailed
from resolvers.inputs import WebhookDraft

_READ_BY_IMPORTS = {"id": "id", "secret": "secret", "createdAt": "created_at"}
"""The resolvers' words for what no caller of a contract gives, and those of `Terms`."""


def draft_of(dialect: Dialect, old: dict[str, Any]) -> WebhookDraft:
    """One webhook of the old API, to be created here with the id and the secret that its callers know.

    Raises ValidationFailed.
    """
    return draft_from(dialect, wish_of(dialect, old))


def wish_of(dialect: Dialect, old: Any) -> dict[str, Any]:
    """What the old API's object says, or an answer of it that holds one, in the words of `Terms`.

    Raises ValidationFailed.
    """
    terms = terms_of(dialect)
    if not isinstance(old, dict):
        raise ValidationFailed.of("line", FieldErrorCode.INVALID_FORMAT, "must be a JSON object")
    for name in terms.old_wrappers:
        if isinstance(old.get(name), dict):
            old = {**old, **old[name]}
    return reading.typed(terms.old, old).model_dump(by_alias=True, exclude_unset=True)


def draft_from(dialect: Dialect, wish: dict[str, Any], *, may_lack_secret: bool = False) -> WebhookDraft:
    """The webhook to be made of it. Raises ValidationFailed, also for want of a secret that the receiver must know."""
    terms = terms_of(dialect)
    draft = terms.draft_of(dialect.name, wish)
    if draft.contract is not None:
        draft.contract.created_at = wish.get("created_at")
        draft.contract.secret_created_at = wish.get("secret_created_at")
    if draft.secret is None and not may_lack_secret and not terms.secret_is_readable:
        message = "is missing: the receiver verifies with it. Give it, or have one made with --new-secrets"
        raise ValidationFailed.of("secret", FieldErrorCode.REQUIRED, message)
    return draft


def names_of(dialect: Dialect) -> dict[str, str]:
    """What the old API calls what only an import reads, by the resolvers' words."""
    names = {}
    for name, info in terms_of(dialect).old.model_fields.items():
        spellings = getattr(info.validation_alias, "choices", [info.validation_alias or name])
        names[str(info.serialization_alias)] = str(spellings[0])
    return {ours: names[word] for ours, word in _READ_BY_IMPORTS.items() if word in names}


def terms_of(dialect: Dialect) -> Terms:
    assert dialect.terms is not None  # noqa: S101 — only contracts have an old API
    return dialect.terms
