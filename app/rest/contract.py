"""What makes a dialect a contract: how its webhooks are made, shown and delivered, as data; and how that data is read.

A page's models are its field map. A field that is read says where it goes (`to`), a field that is written says where it
comes from (`of`); the words for both are those of `Shown` and `draft_of`, the same for every contract.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import ceil
from typing import Annotated, Any
from uuid import UUID

from pydantic import AliasChoices, AliasPath, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from app.rest.bodies import WHOLE, Moment, Reply, Request
from app.rest.dialect import Dialect
from models.event_pattern import EVERYTHING, MAX_LENGTH
from models.ids import Prefix, decode, encode
from models.webhook import PayloadEnvelope, Webhook, WebhookStatus
from resolvers.errors import FieldErrorCode, FieldProblem, ValidationFailed
from resolvers.inputs import (
    ContractChange,
    ContractDraft,
    ContractId,
    DeliveryDraft,
    PatternsPatch,
    SignatureDraft,
    WebhookChange,
    WebhookDraft,
)
from resolvers.statistics import DeliveryStats
from resolvers.validation import MAX_DESCRIPTION, MAX_NAME

__all__ = ["WHOLE", "Catalogue", "IdForm", "Moment", "Reply", "Request", "Shown", "Terms", "Time", "of", "to"]


def to(word: str, *spellings: str, default: Any = ..., **more: Any) -> Any:
    """A field that is read: the word it goes to, and other names that callers of some documents give it."""
    if spellings:
        more["validation_alias"] = AliasChoices(*spellings)
    return Field(default=default, serialization_alias=word, **more)


def of(word: str, default: Any = ..., **more: Any) -> Any:
    """A field that is written: the word it comes from; `fields.x` is what only the contract knows."""
    return Field(default=default, validation_alias=AliasPath(*word.split(".")), **more)


def read_as(default: object) -> BeforeValidator:
    """Of a field that is written: what it is when there is nothing, or only a null that a caller gave."""
    return BeforeValidator(lambda value: default if value is None else value)


def omitted_when_none(word: str, **more: Any) -> Any:
    """A field that is written only when there is something to write."""
    return of(word, None, exclude_if=lambda value: value is None, **more)


def _write_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


Time = Annotated[
    datetime, PlainSerializer(_write_time, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""Written as all five contracts do: RFC 3339 in UTC, to the second."""


@dataclass(frozen=True, slots=True)
class IdForm:
    """The ids that a contract's callers know."""

    of: Callable[[Webhook], str | int]
    read: Callable[[str], Mapping[str, Any]]
    """What a path says, as arguments of `webhooks.of_contract`."""
    example: str
    kind: ContractId | None = None
    organization: Callable[[UUID], str] = lambda uuid: encode(Prefix.ORGANIZATION, uuid)


def _read_uuid(text: str) -> Mapping[str, Any]:
    try:
        return {"id": UUID(text) if len(text) == 36 else None, "contract_id": text}
    except ValueError:
        return {"contract_id": text}


TYPE_ID = IdForm(
    of=lambda row: row.contract_id or encode(Prefix.WEBHOOK, row.id),
    read=lambda text: {"id": decode(Prefix.WEBHOOK, text), "contract_id": text},
    example="whk_01h2xcejqtf2nbrexx3vqjhp41",
)
BARE_UUID = IdForm(
    of=lambda row: row.contract_id or str(row.id),
    read=_read_uuid,
    example="0190a1b2-c3d4-e5f6-a7b8-c9d0e1f2a3b4",
    organization=str,
)
OBJECT_ID = replace(TYPE_ID, kind=ContractId.OBJECT_ID, example="65a5146e1f0c2d4b8a9e7c31")
NUMBER = IdForm(
    of=lambda row: row.number or 0,
    read=lambda text: {"number": int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None, "contract_id": text},
    example="4711",
    kind=ContractId.NUMBER,
)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The event types that a contract knows."""

    names: frozenset[str] = frozenset()
    form: str | None = None
    """A regular expression; names of this form are known, too."""
    everything: bool = False
    """Whether `*` stands for all of them."""
    refuses_repeats: bool = False
    """A name given twice is an error, and not merely dropped."""

    def knows(self, name: str) -> bool:
        if name == EVERYTHING:
            return self.everything
        if name in self.names:
            return True
        # Bounded, because forms backtrack.
        return self.form is not None and len(name) <= MAX_LENGTH and re.fullmatch(self.form, name) is not None

    def schema(self, *more: str) -> dict[str, Any]:
        """What a name must be, or one of `more`, as JSON Schema."""
        names = sorted({*self.names, *more} | ({EVERYTHING} if self.everything else set()))
        if self.form is None:
            return {"enum": names}
        return {"pattern": f"^({'|'.join([*map(re.escape, names), self.form])})$", "maxLength": MAX_LENGTH}

    def problems(self, names: Sequence[str]) -> list[FieldProblem]:
        """What is wrong with a webhook's event types."""
        found = []
        for place, name in enumerate(names):
            path = ("eventPatterns", str(place))
            if not self.knows(name):
                found.append(FieldProblem(path, FieldErrorCode.UNKNOWN_EVENT_TYPE, "is not a known event type"))
            elif self.refuses_repeats and name in names[:place]:
                found.append(FieldProblem(path, FieldErrorCode.DUPLICATE, "is given twice"))
        return found


@dataclass(frozen=True, slots=True)
class Terms:
    """How a contract's webhooks are made, shown and delivered."""

    ids: IdForm
    events: Catalogue
    signatures: tuple[SignatureDraft, ...]
    old: type[Request]
    """A webhook as the old API's answers have it, with its secret: what is imported."""
    old_wrappers: tuple[str, ...] = ("data",)
    """Where its answers have the webhook, one inside the other; what stands beside it is taken along."""
    old_organization: str = "organization"
    """The word for whose it was."""
    envelope: PayloadEnvelope = PayloadEnvelope.STANDARD
    delivery: DeliveryDraft = field(default_factory=DeliveryDraft)
    secret_prefix: str = "whsec_"  # noqa: S105 — the public beginning of a secret
    secret_is_readable: bool = False
    """Whether answers always show the secret, as those do whose callers choose it."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What only this contract knows, as it is at birth."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Put on every delivery; `{company_id}` is one of the contract's own fields, and without it there is no header."""
    unique_by: tuple[str, ...] = ()
    disable_when_exhausted: bool = False
    shows_figures: bool = False
    """Whether answers tell how deliveries have been going."""
    test_data: Mapping[str, Any] | None = None

    def draft_of(self, contract: str, wish: Mapping[str, Any], idempotency_key: str | None = None) -> WebhookDraft:
        """What is to be created. Raises ValidationFailed for event types that the contract does not know."""
        given = {name: value for name, value in wish.items() if value is not None}
        fields = {**self.fields, **_fields_of(given)}
        name, description = given.get("name"), given.get("description")
        events = _events_of(given)
        _raise_if(self.events.problems(events or []))
        texts = (("name", name, MAX_NAME), ("description", description, MAX_DESCRIPTION))
        fields |= {word: text for word, text, most in texts if text is not None and len(text) > most}
        return WebhookDraft(
            url=given["url"],
            event_patterns=list(dict.fromkeys(events or [EVERYTHING])),
            name=None if name is None else name[:MAX_NAME],
            description=None if description is None else description[:MAX_DESCRIPTION],
            api_version=given.get("api_version"),
            envelope=self.envelope,
            delivery=self._delivery_of(given.get("retry", {}), self.delivery, fields),
            signatures=list(self.signatures),
            secret=given.get("secret"),
            custom_headers=self._headers_of(fields),
            status=WebhookStatus.ENABLED if given.get("active", True) else WebhookStatus.DISABLED,
            idempotency_key=idempotency_key,
            contract=ContractDraft(
                name=contract,
                fields=fields,
                id_kind=self.ids.kind,
                id=given.get("id"),
                unique_by=self.unique_by,
                secret_prefix=self.secret_prefix,
                disable_when_exhausted=self.disable_when_exhausted,
            ),
        )

    def change_of(self, row: Webhook, wish: Mapping[str, Any]) -> WebhookChange:
        """What is to be changed; what is left out stays. Raises ValidationFailed as `draft_of` does."""
        change = WebhookChange()
        fields = _fields_of(wish, signed=True)
        if wish.get("url") is not None:
            change.url = wish["url"]
        events = _events_of(wish)
        if events is not None:
            _raise_if(self.events.problems(events))
            change.event_patterns = PatternsPatch(replace=list(dict.fromkeys(events or [EVERYTHING])))
        for word, most in (("name", MAX_NAME), ("description", MAX_DESCRIPTION)):
            if word in wish:
                text = wish[word]
                setattr(change, word, None if text is None else text[:most])
                fields[word] = text if text is not None and len(text) > most else None
        if wish.get("active") is not None:
            change.status = WebhookStatus.ENABLED if wish["active"] else WebhookStatus.DISABLED
        if wish.get("retry"):
            standing = DeliveryDraft(row.timeout_ms / 1000, row.max_attempts, list(row.retry_schedule))
            change.delivery = self._delivery_of(wish["retry"], standing, fields)
        if self.headers and fields:
            change.custom_headers = self._headers_of({**(row.contract_fields or {}), **fields})
        change.contract = ContractChange(fields, wish.get("secret"), self.unique_by)
        return change

    def _delivery_of(self, retry: Mapping[str, Any], standing: DeliveryDraft, fields: dict[str, Any]) -> DeliveryDraft:
        """Delays are kept in whole seconds, rounded up; the milliseconds are shown again as they were given."""
        made = replace(standing)
        if retry.get("max_retries") is not None:
            made.max_attempts = retry["max_retries"] + 1
        if retry.get("delay_ms") is not None:
            made.retry_schedule_seconds = [ceil(retry["delay_ms"] / 1000)]
            fields["delay_ms"] = retry["delay_ms"]
        if retry.get("timeout_ms") is not None:
            made.timeout_seconds = retry["timeout_ms"] / 1000
        return made

    def _headers_of(self, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
        known = {name: value for name, value in fields.items() if value is not None}
        made = []
        for name, template in self.headers.items():
            try:
                made.append((name, template.format_map(known)))
            except KeyError:
                continue
        return made


def _fields_of(wish: Mapping[str, Any], *, signed: bool = False) -> dict[str, Any]:
    """What is for the contract's own fields, without `+` and `-` unless they are wanted."""
    prefix = "fields."
    found = {word.removeprefix(prefix): value for word, value in wish.items() if word.startswith(prefix)}
    found = {word: value for word, value in found.items() if value is not None or word[0] not in "+-"}
    return found if signed else {name.lstrip("+-"): value for name, value in found.items()}


def _events_of(wish: Mapping[str, Any]) -> list[str] | None:
    if wish.get("event") is not None:
        return [wish["event"]]
    return wish.get("events")


def _raise_if(problems: Sequence[FieldProblem]) -> None:
    if problems:
        raise ValidationFailed(problems)


class Shown:
    """A webhook, in every word that a contract may have for it. A page's models pick theirs by name."""

    def __init__(
        self, dialect: Dialect, row: Webhook, secret: str | None = None, figures: DeliveryStats | None = None
    ) -> None:
        assert dialect.terms is not None  # noqa: S101 — only contracts show webhooks in this way
        self.itself = self
        self.ids = dialect.terms.ids
        self.row = row
        self.id = self.ids.of(row)
        self.organization = self.ids.organization(row.organization_id)
        self.url = row.url
        self.event = row.event_patterns[0]
        self.events = row.event_patterns
        self.events_or_none = [] if row.event_patterns == [EVERYTHING] else row.event_patterns
        """Without the `*` that stands for events where none were named."""
        self.fields = {**dialect.terms.fields, **(row.contract_fields or {})}
        self.name = self._whole("name")
        self.description = self._whole("description")
        self.active = row.status == WebhookStatus.ENABLED
        self.api_version = row.api_version
        self.created_at = row.created_at
        self.updated_at = row.updated_at
        self.deleted_at = row.deleted_at
        self.secret = secret
        self.secret_is_shown = secret is not None
        self.secret_created_at = row.secret_created_at
        self.timeout_ms = row.timeout_ms
        self.last_success_at = None if figures is None else figures.last_success_at
        self.figures = Figures(figures)

    def _whole(self, column: str) -> str | None:
        """Text that is longer than its column is kept among the contract's fields, unless it was changed elsewhere."""
        short: str | None
        whole: str | None
        short, whole = getattr(self.row, column), self.fields.get(column)
        return whole if whole is not None and whole[: len(short or "")] == (short or "") else short

    @property
    def max_retries(self) -> int:
        return int(self.row.max_attempts) - 1

    @property
    def delay_ms(self) -> int:
        """As it was given, unless it was changed elsewhere."""
        seconds: int = self.row.retry_schedule[0] if self.row.retry_schedule else 0
        given: int | None = self.fields.get("delay_ms")
        return given if given is not None and ceil(given / 1000) == seconds else 1000 * seconds


class Figures:
    """How deliveries have been going in the last 30 days. Without any, there is nothing to show."""

    total: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    last_at: datetime | None = None

    def __init__(self, stats: DeliveryStats | None) -> None:
        if stats is None or not stats.attempts:
            return
        self.total, self.succeeded = stats.attempts, stats.deliveries.succeeded
        self.failed = self.total - self.succeeded
        self.last_at = max(at for at in (stats.last_success_at, stats.last_failure_at) if at is not None)
