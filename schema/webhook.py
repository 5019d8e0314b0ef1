"""Webhooks: registered addresses, and what can be done with them."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import strawberry

from models.ids import Prefix
from models.moment import to_ms
from models.webhook import Webhook as WebhookRow
from resolvers import webhooks
from resolvers.caller import Scope
from resolvers.inputs import DeliveryDraft, PatternsPatch, SignatureDraft, WebhookChange, WebhookDraft, WebhookFilter
from resolvers.statistics import StatsWindow
from schema import delivery
from schema.context import Info
from schema.enums import DisabledReason, PayloadEnvelope, SignatureScheme, WebhookStatus, shown
from schema.errors import (
    Forbidden,
    IdempotencyConflict,
    LimitExceeded,
    NotFound,
    RateLimited,
    RevisionConflict,
    RotationInProgress,
    ValidationFailed,
)
from schema.event_type import EventType
from schema.fields import field
from schema.inputs import kept, required
from schema.node import Node, id_of
from schema.paging import After, Before, CountedConnection, First, Last, given, page_request
from schema.scalars import JSON
from schema.scopes import RequiresScopes
from schema.statistics import DeliveryStats
from workers.signing import public_key_of
from workers.targets import target_of

if TYPE_CHECKING:
    from schema.delivery import Delivery, DeliveryAttempt, DeliveryFilterInput


# ── What a webhook is ────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type(
    description="One signature put on every request. Several may be on at once, as while a receiver migrates."
)
class SignatureProfile:
    scheme: SignatureScheme = strawberry.field(description="How it is made.")
    header_name: str = strawberry.field(description="Where it is put.")


@strawberry.type(
    description="How a webhook's requests are signed. The secret itself is readable once, where it is made."
)
class SigningInfo:
    row: strawberry.Private[WebhookRow]
    profiles: list[SignatureProfile] = strawberry.field(description="The signatures of every request.")
    secret_hint: str = strawberry.field(description="The last four characters of the current secret.")
    secret_created_at: datetime = strawberry.field(description="When the current secret was made.")

    @field(description="Set while a rotation's overlap is open: every request is then signed with both secrets.")
    def previous_secret_expires_at(self, info: Info) -> datetime | None:
        expires = self.row.previous_secret_expires_at
        return expires if expires is not None and to_ms(expires) > info.context.caller.desk.clock() else None

    @field(description="`whpk_…`, with which receivers verify. Null without STANDARD_WEBHOOKS_ED25519.")
    def public_key(self, info: Info) -> str | None:
        if all(profile.scheme is not SignatureScheme.STANDARD_WEBHOOKS_ED25519 for profile in self.profiles):
            return None
        return public_key_of(target_of(self.row, info.context.caller.desk.sealer).secret)


@strawberry.type(description="What requests look like.")
class PayloadOptions:
    envelope: PayloadEnvelope = strawberry.field(description="What is wrapped round an event's data.")


@strawberry.type(description="How hard delivery is tried.")
class DeliveryOptions:
    timeout_seconds: float = strawberry.field(description="For one attempt: connect, headers and body together.")
    max_attempts: int = strawberry.field(description="After so many failed attempts a delivery is given up.")
    retry_schedule_seconds: list[int] = strawberry.field(
        description=(
            "Delay before attempt 2, 3, …, before jitter; the last one also serves for all further attempts. "
            "A longer `Retry-After` from the receiver is heeded."
        )
    )
    max_per_second: int | None = strawberry.field(description="Attempts a second. Null: no limit.")


@strawberry.type(description="A registered address, and what it wants.")
class Webhook(Node):
    row: strawberry.Private[WebhookRow]
    url: str = strawberry.field(description="Where deliveries go.")
    name: str | None = strawberry.field(description="For people to read.")
    description: str | None = strawberry.field(description="For people to read.")
    event_patterns: list[str] = strawberry.field(
        description="What it wants: each an event type, a prefix such as `order.*`, or `*`."
    )
    api_version: str = strawberry.field(description="The version of the payloads it gets.")
    payload: PayloadOptions = strawberry.field(description="What requests look like.")
    delivery: DeliveryOptions = strawberry.field(description="How hard delivery is tried.")
    custom_header_names: list[str] = strawberry.field(
        description="Headers of your own on every request. Names only; values are write-only."
    )
    metadata: JSON | None = strawberry.field(description="A JSON object of your own. Never sent to the receiver.")
    status: WebhookStatus = strawberry.field(description="What becomes of its deliveries.")
    disabled_reason: DisabledReason | None = strawberry.field(description="Why it is DISABLED; null when it is not.")
    disabled_at: datetime | None = strawberry.field(description="Since when it is DISABLED; null when it is not.")
    signing: SigningInfo = strawberry.field(description="How its requests are signed.")
    created_at: datetime = strawberry.field(description="When it was registered.")
    updated_at: datetime = strawberry.field(description="When it was last written.")
    revision: int = strawberry.field(description="Increments on every write; send it back as `ifRevision`.")

    @field(description="The entries of the catalogue that the patterns match today.")
    async def matching_event_types(self, info: Info) -> list[EventType]:
        rows = await info.context.loaders.event_types_matching.load(tuple(self.event_patterns))
        return [EventType.of(row) for row in rows]

    @field(
        description="How it has been doing, over a rolling window that ends now.",
        extensions=[RequiresScopes(Scope.WEBHOOKS_READ)],
    )
    async def stats(
        self,
        info: Info,
        window: Annotated[StatsWindow, strawberry.argument(description="How far back.")] = StatsWindow.DAY,
    ) -> DeliveryStats | None:
        found = await info.context.loaders.stats_of_webhook(window).load(self.row.id)
        return None if found is None else DeliveryStats.of(found)

    @field(
        description="What was and is to be delivered to it, the latest first.",
        extensions=[RequiresScopes(Scope.DELIVERIES_READ)],
    )
    async def deliveries(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        filter: Annotated[
            Annotated["DeliveryFilterInput", strawberry.lazy("schema.delivery")] | None,
            strawberry.argument(description="Which of them."),
        ] = strawberry.UNSET,
    ) -> CountedConnection[Annotated["Delivery", strawberry.lazy("schema.delivery")]] | None:
        loaders, wanted = info.context.loaders, delivery.delivery_filter(filter)
        page = await loaders.deliveries_of_webhook(wanted, page_request(first, after, last, before)).load(self.row.id)
        return delivery.connection(page, lambda: loaders.delivery_count_of_webhook(wanted).load(self.row.id))

    @classmethod
    def of(cls, row: WebhookRow) -> "Webhook":
        profiles = [
            SignatureProfile(scheme=SignatureScheme(profile["scheme"]), header_name=profile["header_name"])
            for profile in row.signature_profiles
        ]
        return cls(
            id=id_of(Prefix.WEBHOOK, row.id),
            row=row,
            url=row.url,
            name=row.name,
            description=row.description,
            event_patterns=row.event_patterns,
            api_version=row.api_version,
            payload=PayloadOptions(envelope=row.envelope),
            delivery=DeliveryOptions(
                timeout_seconds=row.timeout_ms / 1000,
                max_attempts=row.max_attempts,
                retry_schedule_seconds=row.retry_schedule,
                max_per_second=row.max_per_second,
            ),
            custom_header_names=row.custom_header_names,
            metadata=row.metadata,
            status=row.status,
            disabled_reason=row.disabled_reason,
            disabled_at=row.disabled_at,
            signing=SigningInfo(
                row=row,
                profiles=profiles,
                secret_hint=row.secret_hint,
                secret_created_at=row.secret_created_at,
            ),
            created_at=row.created_at,
            updated_at=row.updated_at,
            revision=row.revision,
        )


# ── Finding ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.input(description="Which webhooks. All that is given must hold.")
class WebhookFilterInput:
    status: list[WebhookStatus] | None = strawberry.field(description="One of these.")
    matches_event_type: str | None = strawberry.field(description="An event of this type would go to it.")
    name_contains: str | None = strawberry.field(description="In upper or lower case.")
    url_contains: str | None = strawberry.field(description="In upper or lower case.")
    failing: bool | None = strawberry.field(description="Its last finished delivery failed (true), or did not (false).")

    def to_filter(self) -> WebhookFilter:
        return WebhookFilter(self.status, self.matches_event_type, self.name_contains, self.url_contains, self.failing)


class WebhookOrderField(StrEnum):
    CREATED_AT = "CREATED_AT"
    UPDATED_AT = "UPDATED_AT"
    NAME = "NAME"


class OrderDirection(StrEnum):
    ASC = "ASC"
    DESC = "DESC"


shown(
    WebhookOrderField,
    "By what webhooks are ordered; those that are equal in it, by age.",
    {
        WebhookOrderField.CREATED_AT: "When it was registered.",
        WebhookOrderField.UPDATED_AT: "When it was last written.",
        WebhookOrderField.NAME: "Its name; those without one come first.",
    },
)
shown(
    OrderDirection,
    "Which way a list is ordered.",
    {OrderDirection.ASC: "The smallest or oldest first.", OrderDirection.DESC: "The largest or latest first."},
)


@strawberry.input(description="How a list of webhooks is ordered. A cursor is good only for the order it came from.")
class WebhookOrder:
    field: WebhookOrderField = strawberry.field(description="By what.")
    direction: OrderDirection = strawberry.field(description="Which way.")

    def to_order(self) -> webhooks.WebhookOrder:
        return webhooks.WebhookOrder(self.field.value, self.direction is OrderDirection.DESC)


# ── Registering ──────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.input(description="One signature to be put on every request.")
class SignatureProfileInput:
    scheme: SignatureScheme = strawberry.field(description="How it is made.")
    header_name: str | None = strawberry.field(
        description="Where it is put. Left out: the scheme's own header. Standard Webhooks knows no other."
    )

    def to_draft(self) -> SignatureDraft:
        return SignatureDraft(self.scheme, self.header_name)


@strawberry.input(description="What requests are to look like; what is left out stays, or is the default.")
class PayloadOptionsInput:
    envelope: PayloadEnvelope | None = strawberry.field(description="Default: STANDARD.")


@strawberry.input(description="How hard to try; what is left out stays, or is the default.")
class DeliveryOptionsInput:
    timeout_seconds: float | None = strawberry.field(description="1 to 30, for one whole attempt. Default: 15.")
    max_attempts: int | None = strawberry.field(description="1 to 25. Default: 10.")
    retry_schedule_seconds: list[int] | None = strawberry.field(
        description=(
            "Delay before attempt 2, 3, …, before jitter: at most 24, each at most 604,800 (7 days). "
            "Default: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."
        )
    )
    max_per_second: strawberry.Maybe[int | None] = strawberry.field(
        description="Attempts a second, 1 to 10,000. Null: no limit, which is the default."
    )

    def to_draft(self) -> DeliveryDraft:
        return DeliveryDraft(
            self.timeout_seconds, self.max_attempts, self.retry_schedule_seconds, kept(self.max_per_second)
        )


@strawberry.input(description="One HTTP header.")
class HttpHeaderInput:
    name: str = strawberry.field(
        description="In upper or lower case. As a custom header, none that HTTP, Standard Webhooks or a signature owns."
    )
    value: str = strawberry.field(
        description="As a custom header, at most 998 printable ASCII characters, kept encrypted and never shown again."
    )


def headers_of(given: list[HttpHeaderInput]) -> list[tuple[str, str]]:
    """Names and values, in the order given."""
    return [(header.name, header.value) for header in given]


@strawberry.input(description="A webhook to be registered.")
class CreateWebhookInput:
    url: str = strawberry.field(
        description=(
            "Absolute https URL, without credentials or fragment, at most 2,048 characters. Private, loopback and "
            "other special addresses are refused; a name that does not resolve yet is accepted."
        )
    )
    event_patterns: list[str] = strawberry.field(
        description=(
            "1 to 50, no duplicates; each an event type, a prefix such as `order.*`, or `*`. With a catalogue, each "
            "must match something in it."
        )
    )
    name: str | None = strawberry.field(description="At most 60 characters.")
    description: str | None = strawberry.field(description="At most 200 characters.")
    api_version: str | None = strawberry.field(description="Left out: the latest.")
    payload: PayloadOptionsInput | None = strawberry.field(description="What requests are to look like.")
    delivery: DeliveryOptionsInput | None = strawberry.field(description="How hard to try.")
    signatures: list[SignatureProfileInput] | None = strawberry.field(
        description="1 to 4. Left out: STANDARD_WEBHOOKS alone."
    )
    secret: str | None = strawberry.field(
        description=(
            "`whsec_` and the base64 of 24 to 64 bytes (for STANDARD_WEBHOOKS_ED25519: `whsk_` and 32 bytes). "
            "Leave it out: the server makes a better one."
        )
    )
    custom_headers: list[HttpHeaderInput] | None = strawberry.field(
        description="At most 5, put on every request. Names that HTTP or a signature own are refused."
    )
    metadata: JSON | None = strawberry.field(
        description="A JSON object of your own, at most 4,096 bytes. Never sent to the receiver."
    )
    status: WebhookStatus = strawberry.field(default=WebhookStatus.ENABLED, description="To begin with.")
    idempotency_key: str | None = strawberry.field(
        description=(
            "Your own key, at most 255 characters: the same key with the same input within 24 hours returns the first "
            "result, without its secret."
        )
    )

    def to_draft(self) -> WebhookDraft:
        return WebhookDraft(
            url=self.url,
            event_patterns=self.event_patterns,
            name=self.name,
            description=self.description,
            api_version=self.api_version,
            envelope=self.payload.envelope if self.payload else None,
            delivery=self.delivery.to_draft() if self.delivery else DeliveryDraft(),
            signatures=None if self.signatures is None else [each.to_draft() for each in self.signatures],
            secret=self.secret,
            custom_headers=None if self.custom_headers is None else headers_of(self.custom_headers),
            metadata=self.metadata,
            status=self.status,
            idempotency_key=self.idempotency_key,
        )


# ── Changing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.input(one_of=True, description="How to change the patterns: exactly one of the three.")
class EventPatternsPatchInput:
    replace: list[str] | None = strawberry.field(default=strawberry.UNSET, description="These and no others.")
    add: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="These as well; what is there already stays once."
    )
    remove: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Without these; at least one must be left."
    )

    def to_patch(self) -> PatternsPatch:
        return PatternsPatch(given(self.replace), given(self.add), given(self.remove))


@strawberry.input(description="What to change: what is left out stays; null clears, where null can be read.")
class UpdateWebhookInput:
    id: strawberry.ID = strawberry.field(description="`whk_…`")
    if_revision: int | None = strawberry.field(
        description="Change it only if this is still its `revision`; else the answer is RevisionConflict."
    )
    url: strawberry.Maybe[str | None] = strawberry.field(description="As in `CreateWebhookInput`; cannot be null.")
    event_patterns: strawberry.Maybe[EventPatternsPatchInput | None] = strawberry.field(
        description="Add, remove or replace patterns; cannot be null."
    )
    name: strawberry.Maybe[str | None] = strawberry.field(description="At most 60 characters. Null clears.")
    description: strawberry.Maybe[str | None] = strawberry.field(description="At most 200 characters. Null clears.")
    api_version: strawberry.Maybe[str | None] = strawberry.field(description="A supported version; cannot be null.")
    payload: strawberry.Maybe[PayloadOptionsInput | None] = strawberry.field(
        description="What is left out of it stays; cannot be null."
    )
    delivery: strawberry.Maybe[DeliveryOptionsInput | None] = strawberry.field(
        description="What is left out of it stays; cannot be null."
    )
    signatures: strawberry.Maybe[list[SignatureProfileInput] | None] = strawberry.field(
        description="These and no others, 1 to 4; cannot be null."
    )
    custom_headers: strawberry.Maybe[list[HttpHeaderInput] | None] = strawberry.field(
        description="These and no others, values included. Null or an empty list clears."
    )
    metadata: strawberry.Maybe[JSON | None] = strawberry.field(description="The whole object. Null clears.")
    status: strawberry.Maybe[WebhookStatus | None] = strawberry.field(
        description="ENABLED also ends an automatic disablement; cannot be null."
    )

    def to_change(self) -> WebhookChange:
        """Raises ValidationFailed for a null where there must be something."""
        required(
            url=self.url,
            event_patterns=self.event_patterns,
            api_version=self.api_version,
            payload=self.payload,
            delivery=self.delivery,
            signatures=self.signatures,
            status=self.status,
        )
        change = WebhookChange(name=kept(self.name), description=kept(self.description), metadata=kept(self.metadata))
        if self.url and self.url.value is not None:
            change.url = self.url.value
        if self.event_patterns and self.event_patterns.value:
            change.event_patterns = self.event_patterns.value.to_patch()
        if self.api_version and self.api_version.value is not None:
            change.api_version = self.api_version.value
        if self.payload and self.payload.value and self.payload.value.envelope is not None:
            change.envelope = self.payload.value.envelope
        if self.delivery and self.delivery.value:
            change.delivery = self.delivery.value.to_draft()
        if self.signatures and self.signatures.value is not None:
            change.signatures = [each.to_draft() for each in self.signatures.value]
        if self.custom_headers:
            change.custom_headers = headers_of(self.custom_headers.value or [])
        if self.status and self.status.value is not None:
            change.status = self.status.value
        return change


@strawberry.input(description="Which webhook to delete.")
class DeleteWebhookInput:
    id: strawberry.ID = strawberry.field(description="`whk_…`")
    if_revision: int | None = strawberry.field(description="Delete it only if this is still its `revision`.")


@strawberry.input(description="Which webhook's secret to change, and how softly.")
class RotateWebhookSecretInput:
    id: strawberry.ID = strawberry.field(description="`whk_…`")
    secret: str | None = strawberry.field(
        description="A secret of your own, as in `CreateWebhookInput`. Leave it out: the server makes a better one."
    )
    overlap_seconds: int = strawberry.field(
        default=86_400,
        description="How long the old secret signs beside the new one. 0: it leaked, cut now. At most 604,800.",
    )
    force: bool = strawberry.field(default=False, description="Rotate though an overlap is still open, ending it.")


@strawberry.input(description="Which webhook's old secret to end.")
class ExpirePreviousWebhookSecretInput:
    id: strawberry.ID = strawberry.field(description="`whk_…`")


@strawberry.input(description="Which webhook to try, and with what.")
class TestWebhookInput:
    id: strawberry.ID = strawberry.field(description="`whk_…`; its status does not matter.")
    event_type: str | None = strawberry.field(description="Left out: `webhook.test`.")
    data: JSON | None = strawberry.field(description="The event's data. Left out: a small sample.")


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type(description="The webhook is registered: the next event it wants goes to it.")
class CreateWebhookPayload:
    webhook: Webhook = strawberry.field(description="The webhook.")
    secret: str | None = strawberry.field(
        description="What receivers verify with. The only time it is readable; null on an idempotent repeat."
    )


@strawberry.type(description="The webhook is changed: the next event and the next attempt heed it.")
class UpdateWebhookPayload:
    webhook: Webhook = strawberry.field(description="The webhook as it stands.")


@strawberry.type(description="The webhook is deleted: nothing goes to it any more.")
class DeleteWebhookPayload:
    deleted_webhook_id: strawberry.ID = strawberry.field(description="The id that was given.")
    canceled_deliveries: int = strawberry.field(description="How many deliveries were waiting, and are canceled.")


@strawberry.type(description="The webhook has a new secret.")
class RotateWebhookSecretPayload:
    webhook: Webhook = strawberry.field(description="The webhook.")
    secret: str = strawberry.field(description="The new secret. The only time it is readable.")
    previous_secret_expires_at: datetime | None = strawberry.field(
        description="Until then requests are signed with both. Null: the old one is cut."
    )


@strawberry.type(description="Requests are signed with the current secret alone.")
class ExpirePreviousWebhookSecretPayload:
    webhook: Webhook = strawberry.field(description="The webhook.")


@strawberry.type(
    description=(
        "The test was sent and is over, well or badly: see the attempt. It waits for the receiver's answer, at most "
        "the webhook's timeout."
    )
)
class TestWebhookPayload:
    delivery: Annotated["Delivery", strawberry.lazy("schema.delivery")] = strawberry.field(
        description="The delivery, with trigger TEST; it is not retried."
    )
    attempt: Annotated["DeliveryAttempt", strawberry.lazy("schema.delivery")] = strawberry.field(
        description="Its only attempt."
    )


CreateWebhookResult = Annotated[
    CreateWebhookPayload | ValidationFailed | LimitExceeded | IdempotencyConflict | Forbidden,
    strawberry.union("CreateWebhookResult", description="What `createWebhook` answers."),
]
UpdateWebhookResult = Annotated[
    UpdateWebhookPayload | ValidationFailed | NotFound | RevisionConflict | LimitExceeded | Forbidden,
    strawberry.union(
        "UpdateWebhookResult",
        description="What `updateWebhook` answers. LimitExceeded when a DISABLED webhook may not be turned on again.",
    ),
]
DeleteWebhookResult = Annotated[
    DeleteWebhookPayload | NotFound | RevisionConflict | Forbidden,
    strawberry.union("DeleteWebhookResult", description="What `deleteWebhook` answers."),
]
RotateWebhookSecretResult = Annotated[
    RotateWebhookSecretPayload | ValidationFailed | NotFound | RotationInProgress | Forbidden,
    strawberry.union("RotateWebhookSecretResult", description="What `rotateWebhookSecret` answers."),
]
ExpirePreviousWebhookSecretResult = Annotated[
    ExpirePreviousWebhookSecretPayload | NotFound | Forbidden,
    strawberry.union("ExpirePreviousWebhookSecretResult", description="What `expirePreviousWebhookSecret` answers."),
]
TestWebhookResult = Annotated[
    TestWebhookPayload | ValidationFailed | NotFound | RateLimited | Forbidden,
    strawberry.union("TestWebhookResult", description="What `testWebhook` answers."),
]
