"""Registering webhooks, changing, rotating, testing and finding them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.wiring import House
from models.attempt import AttemptOutcome
from models.delivery import Delivery, DeliveryStatus, DeliveryTrigger
from models.event import Event
from models.ids import Prefix, encode, new_id
from models.moment import from_ms
from models.organization import Organization
from models.webhook import (
    DisabledReason,
    PayloadEnvelope,
    SignatureScheme,
    Webhook,
    WebhookHealth,
    WebhookStatus,
)
from resolvers import event_types, events, statistics, webhooks
from resolvers.caller import Caller
from resolvers.desk import Limits
from resolvers.errors import (
    FieldErrorCode,
    IdempotencyConflict,
    LimitExceeded,
    NotFound,
    RateLimited,
    Refusal,
    RevisionConflict,
    RotationInProgress,
    ValidationFailed,
)
from resolvers.inputs import (
    DeliveryDraft,
    EventDraft,
    EventTypeDraft,
    PatternsPatch,
    SignatureDraft,
    WebhookChange,
    WebhookDraft,
    WebhookFilter,
)
from resolvers.paging import PageRequest
from tests.houses import ManualClock, id_of, new_caller, open_house, stored
from tests.receivers import Answer, Receiver
from workers.signing import is_signed
from workers.targets import target_of

URL = "https://1.1.1.1/hooks"
DRAFT = WebhookDraft(URL, ["order.created"])
UNKNOWN = encode(Prefix.WEBHOOK, new_id())
ENABLED, PAUSED, DISABLED = WebhookStatus
DAY = 86_400


async def create(caller: Caller, **fields: Any) -> Webhook:
    return (await webhooks.create(caller, replace(DRAFT, **fields))).webhook


async def version(caller: Caller) -> int:
    organization = await Organization.get(id=caller.organization_id)
    return int(organization.version)


def keys_of(house: House, webhook: Webhook) -> tuple[str, ...]:
    """The secrets that sign now."""
    return target_of(webhook, house.desk.sealer).keys_at(house.desk.clock())


async def refused(doing: Awaitable[object], kind: type[Refusal]) -> Any:
    """The refusal, and that nothing changed."""
    before = await stored()
    with pytest.raises(kind) as refusal:
        await doing
    assert await stored() == before
    return refusal.value


# ── creating ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_webhook_with_the_least_said_has_the_defaults(house: House, caller: Caller, clock: ManualClock) -> None:
    before = await version(caller)
    created = await webhooks.create(caller, DRAFT)
    for webhook in (created.webhook, await Webhook.get(id=created.webhook.id)):
        assert (webhook.organization_id, webhook.url) == (caller.organization_id, URL)
        assert (webhook.event_patterns, webhook.api_version) == (["order.created"], "2026-04-01")
        assert (webhook.name, webhook.description, webhook.metadata) == (None, None, None)
        assert (webhook.envelope, webhook.status) == (PayloadEnvelope.STANDARD, ENABLED)
        assert webhook.signature_profiles == [{"scheme": "STANDARD_WEBHOOKS", "header_name": "webhook-signature"}]
        assert (webhook.timeout_ms, webhook.max_attempts, webhook.max_per_second) == (15_000, 10, None)
        assert webhook.retry_schedule == [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
        assert (webhook.custom_headers, webhook.custom_header_names) == (None, [])
        assert webhook.revision == 1
        assert webhook.deleted_at is webhook.disabled_reason is None
        assert webhook.created_at == webhook.updated_at == webhook.secret_created_at == from_ms(clock())
        assert created.secret is not None
        assert webhook.secret_hint == created.secret[-4:]
        assert keys_of(house, webhook) == (created.secret,)
        assert created.secret.encode() not in bytes(webhook.secret or b"")
    assert await version(caller) == before + 1
    assert (await WebhookHealth.get(webhook_id=created.webhook.id)).consecutive_failures == 0


async def test_a_webhook_with_everything_said_is_kept_as_said(house: House, caller: Caller) -> None:
    created = await webhooks.create(
        caller,
        WebhookDraft(
            URL,
            ["order.*", "*"],
            name="Orders",
            description="To the warehouse",
            api_version="2026-04-01",
            envelope=PayloadEnvelope.BARE_DATA,
            delivery=DeliveryDraft(2.5, 7, [1, 2], 30),
            signatures=[SignatureDraft(SignatureScheme.PREFIXED_HEX, "X-Acme")],
            secret="plain and quite long",
            custom_headers=[("Authorization", "Bearer t0ken"), ("X-A", "")],
            metadata={"owner": "ops"},
            status=PAUSED,
        ),
    )
    webhook = await Webhook.get(id=created.webhook.id)
    assert (webhook.name, webhook.description) == ("Orders", "To the warehouse")
    assert (webhook.envelope, webhook.status, webhook.metadata) == (PayloadEnvelope.BARE_DATA, PAUSED, {"owner": "ops"})
    assert (webhook.timeout_ms, webhook.max_attempts, webhook.retry_schedule) == (2500, 7, [1, 2])
    assert (webhook.max_per_second, webhook.custom_header_names) == (30, ["Authorization", "X-A"])
    assert b"t0ken" not in bytes(webhook.custom_headers or b"")
    target = target_of(webhook, house.desk.sealer)
    assert target.custom_headers == (("Authorization", "Bearer t0ken"), ("X-A", ""))
    assert (created.secret, target.secret, webhook.secret_hint) == (
        "plain and quite long",
        "plain and quite long",
        "long",
    )


async def test_a_schedule_alone_says_how_many_attempts(caller: Caller) -> None:
    webhook = await create(caller, delivery=DeliveryDraft(retry_schedule_seconds=[1, 2, 3]))
    assert (webhook.max_attempts, webhook.retry_schedule) == (4, [1, 2, 3])


async def test_a_webhook_that_begins_disabled_was_disabled_by_somebody(caller: Caller, clock: ManualClock) -> None:
    webhook = await create(caller, status=DISABLED)
    assert (webhook.disabled_reason, webhook.disabled_at) == (DisabledReason.MANUAL, from_ms(clock()))


async def test_blank_texts_are_none(caller: Caller) -> None:
    webhook = await create(caller, name=" ", description="")
    assert (webhook.name, webhook.description) == (None, None)


# ── creating the same again ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_creation_under_one_key_is_one_webhook_and_shows_its_secret_once(caller: Caller) -> None:
    draft = replace(DRAFT, idempotency_key="key-1", metadata={"a": 1})
    first = await webhooks.create(caller, draft)
    again = await webhooks.create(caller, replace(draft, metadata={"a": 1}))
    assert (again.webhook.id, again.secret) == (first.webhook.id, None)
    assert await Webhook.all().count() == 1
    others = await new_caller(caller.desk)
    assert (await webhooks.create(others, draft)).webhook.id != first.webhook.id


async def test_another_creation_under_the_same_key_is_refused(caller: Caller) -> None:
    webhook = await create(caller, idempotency_key="key-1")
    await refused(create(caller, idempotency_key="key-1", name="other"), IdempotencyConflict)
    await webhooks.delete(caller, id_of(webhook))
    await refused(create(caller, idempotency_key="key-1"), IdempotencyConflict)


async def test_a_key_may_be_used_anew_after_a_day(caller: Caller, clock: ManualClock) -> None:
    first = await create(caller, idempotency_key="key-1")
    clock.advance(hours=24)
    assert (await create(caller, idempotency_key="key-1", name="other")).id != first.id


async def test_a_refused_creation_does_not_use_up_its_key(caller: Caller) -> None:
    await Organization.filter(id=caller.organization_id).update(max_webhooks=0)
    await refused(create(caller, idempotency_key="key-1"), LimitExceeded)
    await Organization.filter(id=caller.organization_id).update(max_webhooks=1)
    assert (await create(caller, idempotency_key="key-1", name="other")).name == "other"


async def test_concurrent_creations_under_one_key_are_one_webhook(caller: Caller) -> None:
    made = await asyncio.gather(*(create(caller, idempotency_key="key-1") for _ in range(6)))
    assert len({webhook.id for webhook in made}) == 1
    assert await Webhook.all().count() == 1


# ── the limit ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_limit_counts_what_is_not_disabled(database_url: str) -> None:
    async with open_house(database_url, max_webhooks=2) as house:
        caller = await new_caller(house.desk)
        first = await create(caller)
        await create(caller, status=PAUSED)
        refusal = await refused(create(caller), LimitExceeded)
        assert (refusal.limit, refusal.message) == (2, "webhook limit reached (max 2); delete or disable one first")
        await refused(create(caller, status=PAUSED), LimitExceeded)
        await create(caller, status=DISABLED)
        await webhooks.update(caller, id_of(first), WebhookChange(status=DISABLED))
        third = await create(caller)
        for status in (ENABLED, PAUSED):
            await refused(webhooks.update(caller, id_of(first), WebhookChange(status=status)), LimitExceeded)
        await webhooks.update(caller, id_of(third), WebhookChange(status=PAUSED))
        await webhooks.update(caller, id_of(third), WebhookChange(status=ENABLED))
        await webhooks.delete(caller, id_of(third))
        await webhooks.update(caller, id_of(first), WebhookChange(status=ENABLED))


async def test_an_organization_may_have_a_limit_of_its_own(caller: Caller) -> None:
    await Organization.filter(id=caller.organization_id).update(max_webhooks=1)
    await create(caller)
    assert (await refused(create(caller), LimitExceeded)).limit == 1


async def test_of_two_creations_at_the_last_place_one_wins(caller: Caller) -> None:
    await Organization.filter(id=caller.organization_id).update(max_webhooks=3)
    made = await asyncio.gather(*(create(caller) for _ in range(8)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in made) == ["LimitExceeded"] * 5 + ["Webhook"] * 3
    assert await Webhook.all().count() == 3


# ── changing ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_change_changes_what_is_given_and_keeps_the_rest(caller: Caller, clock: ManualClock) -> None:
    webhook = await create(caller, name="Orders", metadata={"a": 1}, custom_headers=[("X-A", "1")])
    before, at_first = (await stored(["webhook"]))["webhook"][0], await version(caller)
    clock.advance(seconds=1)

    changed = await webhooks.update(caller, id_of(webhook), WebhookChange(description="new"))

    after = (await stored(["webhook"]))["webhook"][0]
    assert {name for name in after if after[name] != before[name]} == {"description", "revision", "updated_at"}
    assert (changed.description, changed.revision, changed.updated_at) == ("new", 2, from_ms(clock()))
    assert changed.created_at == from_ms(clock() - 1000)
    assert await version(caller) == at_first + 1


async def test_null_clears_what_may_be_empty(caller: Caller) -> None:
    webhook = await create(
        caller, name="Orders", description="d", metadata={"a": 1}, custom_headers=[("X-A", "1")],
        delivery=DeliveryDraft(max_per_second=5),
    )  # fmt: skip
    change = WebhookChange(
        name=None, description=None, metadata=None, custom_headers=[], delivery=DeliveryDraft(max_per_second=None)
    )
    changed = await webhooks.update(caller, id_of(webhook), change)
    for row in (changed, await Webhook.get(id=webhook.id)):
        assert (row.name, row.description, row.metadata, row.max_per_second) == (None, None, None, None)
        assert (row.custom_headers, row.custom_header_names) == (None, [])


async def test_delivery_options_change_one_by_one(caller: Caller) -> None:
    webhook = await create(caller, delivery=DeliveryDraft(10, 5, [1, 2], 7))
    for change, expected in [
        (DeliveryDraft(timeout_seconds=20), (20_000, 5, [1, 2], 7)),
        (DeliveryDraft(max_attempts=3), (20_000, 3, [1, 2], 7)),
        (DeliveryDraft(retry_schedule_seconds=[9]), (20_000, 2, [9], 7)),
        (DeliveryDraft(retry_schedule_seconds=[8], max_attempts=9), (20_000, 9, [8], 7)),
        (DeliveryDraft(max_per_second=1), (20_000, 9, [8], 1)),
        (DeliveryDraft(), (20_000, 9, [8], 1)),
    ]:
        row = await webhooks.update(caller, id_of(webhook), WebhookChange(delivery=change))
        assert (row.timeout_ms, row.max_attempts, row.retry_schedule, row.max_per_second) == expected


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("patch", "patterns"),
    [
        (PatternsPatch(replace=["x", "y"]), ["x", "y"]),
        (PatternsPatch(add=["c"]), ["a", "b", "c"]),
        (PatternsPatch(add=["b", "c"]), ["a", "b", "c"]),
        (PatternsPatch(add=[]), ["a", "b"]),
        (PatternsPatch(remove=["a"]), ["b"]),
        (PatternsPatch(remove=["a", "z"]), ["b"]),
    ],
)
async def test_patterns_are_replaced_added_or_removed(
    caller: Caller, patch: PatternsPatch, patterns: list[str]
) -> None:
    webhook = await create(caller, event_patterns=["a", "b"])
    assert (
        await webhooks.update(caller, id_of(webhook), WebhookChange(event_patterns=patch))
    ).event_patterns == patterns
    assert (await Webhook.get(id=webhook.id)).event_patterns == patterns


async def test_concurrent_additions_of_patterns_lose_none(caller: Caller) -> None:
    webhook = await create(caller, event_patterns=["a"])
    patches = [WebhookChange(event_patterns=PatternsPatch(add=[f"b{i}"])) for i in range(6)]
    await asyncio.gather(*(webhooks.update(caller, id_of(webhook), patch) for patch in patches))
    row = await Webhook.get(id=webhook.id)
    assert sorted(row.event_patterns) == ["a", *(f"b{i}" for i in range(6))]
    assert row.revision == 7


async def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused_and_shows_it(caller: Caller) -> None:
    webhook = await create(caller)
    await webhooks.update(caller, id_of(webhook), WebhookChange(name="theirs"), if_revision=1)
    conflict = await refused(
        webhooks.update(caller, id_of(webhook), WebhookChange(name="mine"), if_revision=1), RevisionConflict
    )
    assert (conflict.current.name, conflict.current.revision) == ("theirs", 2)
    await refused(webhooks.delete(caller, id_of(webhook), if_revision=1), RevisionConflict)
    await webhooks.delete(caller, id_of(webhook), if_revision=2)


# ── statuses, and the deliveries that wait ──────────────────────────────────────────────────────────────────────


async def publish(caller: Caller, count: int = 1, type: str = "order.created") -> None:
    await events.publish_many(caller, [EventDraft(type, {}) for _ in range(count)])


async def waiting() -> list[tuple[DeliveryStatus, bool]]:
    """The states of all deliveries, and whether they are due some time."""
    return [(row.status, row.due_at is not None) for row in await Delivery.all().order_by("id")]


async def test_pausing_keeps_what_waits_and_enabling_makes_it_due(caller: Caller, clock: ManualClock) -> None:
    webhook = await create(caller)
    await publish(caller)
    paused = await webhooks.update(caller, id_of(webhook), WebhookChange(status=PAUSED))
    assert paused.status is PAUSED
    assert paused.disabled_reason is None
    assert await waiting() == [(DeliveryStatus.PENDING, False)]
    await publish(caller)  # while it is paused
    assert await caller.desk.ledger.claim(clock(), {webhook.id: 10}) == []
    assert await waiting() == [(DeliveryStatus.PENDING, False)] * 2
    clock.advance(hours=1)
    await webhooks.update(caller, id_of(webhook), WebhookChange(status=ENABLED))
    assert {row.due_at for row in await Delivery.all()} == {from_ms(clock())}
    assert len(await caller.desk.ledger.claim(clock(), {webhook.id: 10})) == 2


async def test_disabling_cancels_what_waits_and_what_is_published_then_is_not_for_it(
    caller: Caller, clock: ManualClock
) -> None:
    webhook = await create(caller)
    await publish(caller, 2)
    disabled = await webhooks.update(caller, id_of(webhook), WebhookChange(status=DISABLED))
    assert (disabled.disabled_reason, disabled.disabled_at) == (DisabledReason.MANUAL, from_ms(clock()))
    assert await waiting() == [(DeliveryStatus.CANCELED, False)] * 2
    assert (await events.publish(caller, EventDraft("order.created", {}))).matched_webhook_count == 0
    enabled = await webhooks.update(caller, id_of(webhook), WebhookChange(status=ENABLED))
    assert enabled.disabled_reason is enabled.disabled_at is None
    assert await waiting() == [(DeliveryStatus.CANCELED, False)] * 2
    assert (await events.publish(caller, EventDraft("order.created", {}))).matched_webhook_count == 1


async def test_disabling_again_keeps_the_first_reason(caller: Caller, clock: ManualClock) -> None:
    webhook = await create(caller)
    assert await caller.desk.ledger.disable(webhook.id, DisabledReason.GONE, clock())
    disabled_at = from_ms(clock())
    clock.advance(hours=1)
    again = await webhooks.update(caller, id_of(webhook), WebhookChange(status=DISABLED))
    assert (again.disabled_reason, again.disabled_at) == (DisabledReason.GONE, disabled_at)


@pytest.mark.parametrize("by_way_of", [[ENABLED], [PAUSED, ENABLED]])
async def test_enabling_is_a_fresh_start_for_its_health(
    caller: Caller, clock: ManualClock, by_way_of: list[WebhookStatus]
) -> None:
    webhook = await create(caller)
    await WebhookHealth.filter(webhook_id=webhook.id).update(consecutive_failures=9, failing_since=from_ms(clock()))
    await caller.desk.ledger.disable(webhook.id, DisabledReason.CONSECUTIVE_FAILURES, clock())
    for status in by_way_of:
        await webhooks.update(caller, id_of(webhook), WebhookChange(status=status))
    health = await WebhookHealth.get(webhook_id=webhook.id)
    assert (health.consecutive_failures, health.failing_since) == (0, None)


async def test_concurrent_changes_of_status_leave_no_delivery_behind(caller: Caller, clock: ManualClock) -> None:
    webhook = await create(caller)
    for _ in range(5):
        await publish(caller)
        changes = [WebhookChange(status=status) for status in (PAUSED, ENABLED, PAUSED, ENABLED)]
        await asyncio.gather(*(webhooks.update(caller, id_of(webhook), change) for change in changes))
        status = (await Webhook.get(id=webhook.id)).status
        due = {is_due for _, is_due in await waiting()}
        assert due == {status is ENABLED}
        await webhooks.update(caller, id_of(webhook), WebhookChange(status=ENABLED))


# ── deleting ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_deleted_webhook_is_gone_its_secrets_too_and_what_waited_is_canceled(
    caller: Caller, clock: ManualClock
) -> None:
    webhook = await create(caller, custom_headers=[("X-A", "1")])
    await webhooks.rotate_secret(caller, id_of(webhook))
    await publish(caller, 3)
    before = await version(caller)

    deleted = await webhooks.delete(caller, id_of(webhook))

    assert (deleted.webhook.id, deleted.canceled_deliveries) == (webhook.id, 3)
    assert await waiting() == [(DeliveryStatus.CANCELED, False)] * 3
    row = await Webhook.get(id=webhook.id)
    assert (row.secret, row.previous_secret, row.custom_headers) == (None, None, None)
    assert row.deleted_at == from_ms(clock())
    assert await version(caller) == before + 1
    assert (await events.publish(caller, EventDraft("order.created", {}))).matched_webhook_count == 0
    for again in (webhooks.delete, webhooks.get, webhooks.rotate_secret, webhooks.test):
        await refused(again(caller, id_of(webhook)), NotFound)
    await refused(webhooks.update(caller, id_of(webhook), WebhookChange(name="x")), NotFound)
    assert await webhooks.count(caller, WebhookFilter()) == 0
    assert await webhooks.by_ids(caller, [webhook.id]) == {}
    assert await webhooks.counts_by_organization([caller.organization_id]) == {caller.organization_id: 0}


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_rotation_has_both_secrets_sign_until_the_overlap_ends(
    house: House, caller: Caller, clock: ManualClock
) -> None:
    created = await webhooks.create(caller, DRAFT)
    clock.advance(hours=1)
    rotated = await webhooks.rotate_secret(caller, id_of(created.webhook))
    assert rotated.previous_secret_expires_at == from_ms(clock()) + timedelta(days=1)
    row = await Webhook.get(id=created.webhook.id)
    assert rotated.secret != created.secret
    assert keys_of(house, row) == (rotated.secret, created.secret)
    assert (row.secret_hint, row.secret_created_at, row.revision) == (rotated.secret[-4:], from_ms(clock()), 2)
    clock.advance(seconds=DAY, milliseconds=-1)
    assert keys_of(house, row) == (rotated.secret, created.secret)
    clock.advance(milliseconds=1)
    assert keys_of(house, row) == (rotated.secret,)


@pytest.mark.parametrize("overlap", [1, 7 * DAY])
async def test_a_second_rotation_waits_for_the_first_unless_forced(
    house: House, caller: Caller, clock: ManualClock, overlap: int
) -> None:
    webhook = await create(caller)
    first = await webhooks.rotate_secret(caller, id_of(webhook), overlap_seconds=overlap)
    refusal = await refused(webhooks.rotate_secret(caller, id_of(webhook)), RotationInProgress)
    assert refusal.previous_secret_expires_at == first.previous_secret_expires_at
    forced = await webhooks.rotate_secret(caller, id_of(webhook), force=True)
    assert keys_of(house, await Webhook.get(id=webhook.id)) == (forced.secret, first.secret)
    clock.advance(days=1)
    assert (await webhooks.rotate_secret(caller, id_of(webhook))).secret != forced.secret


async def test_a_leaked_secret_is_replaced_without_overlap(house: House, caller: Caller) -> None:
    webhook = await create(caller)
    rotated = await webhooks.rotate_secret(caller, id_of(webhook), overlap_seconds=0)
    assert rotated.previous_secret_expires_at is None
    row = await Webhook.get(id=webhook.id)
    assert (row.previous_secret, row.previous_secret_expires_at) == (None, None)
    assert keys_of(house, row) == (rotated.secret,)
    await webhooks.rotate_secret(caller, id_of(webhook))  # no overlap is open


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("overlap", [-1, 7 * DAY + 1])
async def test_an_overlap_is_a_week_at_most(caller: Caller, overlap: int) -> None:
    webhook = await create(caller)
    refusal = await refused(webhooks.rotate_secret(caller, id_of(webhook), overlap_seconds=overlap), ValidationFailed)
    assert [(p.path, p.code) for p in refusal.fields] == [(("overlapSeconds",), FieldErrorCode.OUT_OF_RANGE)]


async def test_an_overlap_can_be_ended_early(house: House, caller: Caller) -> None:
    webhook = await create(caller)
    rotated = await webhooks.rotate_secret(caller, id_of(webhook))
    ended = await webhooks.expire_previous_secret(caller, id_of(webhook))
    assert (ended.previous_secret, ended.previous_secret_expires_at, ended.revision) == (None, None, 3)
    assert keys_of(house, await Webhook.get(id=webhook.id)) == (rotated.secret,)
    assert (await webhooks.expire_previous_secret(caller, id_of(webhook))).revision == 3


async def test_a_secret_of_the_callers_own_must_fit_the_schemes(house: House, caller: Caller) -> None:
    webhook = await create(caller)
    refusal = await refused(webhooks.rotate_secret(caller, id_of(webhook), secret="too plain"), ValidationFailed)
    assert [(p.path, p.code) for p in refusal.fields] == [(("secret",), FieldErrorCode.INVALID_FORMAT)]
    own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert (await webhooks.rotate_secret(caller, id_of(webhook), secret=own)).secret == own
    assert keys_of(house, await Webhook.get(id=webhook.id))[0] == own


async def test_an_asymmetric_webhook_rotates_to_an_asymmetric_secret(caller: Caller) -> None:
    webhook = await create(caller, signatures=[SignatureDraft(SignatureScheme.STANDARD_WEBHOOKS_ED25519)])
    assert (await webhooks.rotate_secret(caller, id_of(webhook))).secret.startswith("whsk_")


# ── testing ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("status", WebhookStatus)
async def test_a_test_is_sent_at_once_whatever_the_status(lenient: House, status: WebhookStatus) -> None:
    caller = await new_caller(lenient.desk)
    async with Receiver(Answer(201, body=b"hello")) as receiver:
        created = await webhooks.create(caller, WebhookDraft(receiver.url, ["a"], status=status))
        tested = await webhooks.test(caller, id_of(created.webhook))
    [received] = receiver.requests
    assert created.secret is not None
    assert is_signed(
        created.secret,
        id=received.header("webhook-id") or "",
        timestamp=received.header("webhook-timestamp") or "",
        signatures=received.header("webhook-signature") or "",
        body=received.body,
    )
    event = await Event.get()
    assert (event.type, event.is_test, bytes(event.body)) == ("webhook.test", True, received.body)
    assert encode(Prefix.WEBHOOK, created.webhook.id).encode() in received.body
    assert (tested.delivery.status, tested.delivery.trigger) == (DeliveryStatus.SUCCEEDED, DeliveryTrigger.TEST)
    assert (tested.attempt.number, tested.attempt.response_status) == (1, 201)
    assert (await Webhook.get(id=created.webhook.id)).status is status


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("answer", [500, 410, 302])
async def test_a_test_that_fails_is_tried_once_disables_nothing_and_counts_for_nothing(
    lenient: House, answer: int
) -> None:
    caller = await new_caller(lenient.desk)
    async with Receiver(answer) as receiver:
        webhook = await create(caller, url=receiver.url)
        tested = await webhooks.test(caller, id_of(webhook), event_type="order.created", data={"id": 1})
    assert (tested.delivery.status, tested.delivery.attempt_count) == (DeliveryStatus.DEAD_LETTERED, 1)
    assert tested.attempt.response_status == answer
    assert receiver.requests[0].body.startswith(b'{"type":"order.created",')
    assert receiver.requests[0].body.endswith(b'"data":{"id":1}}')
    assert (await Webhook.get(id=webhook.id)).status is ENABLED
    health = await WebhookHealth.get(webhook_id=webhook.id)
    assert (health.consecutive_failures, health.last_delivery_failed) == (0, False)
    stats = (await statistics.of_webhooks(caller, [webhook.id], statistics.StatsWindow.HOUR))[webhook.id]
    assert (stats.attempts, stats.deliveries.dead_lettered) == (0, 0)


async def test_a_test_of_nobody_tells_what_went_wrong(lenient: House) -> None:
    caller = await new_caller(lenient.desk)
    async with Receiver() as receiver:
        webhook = await create(caller, url=receiver.url)
    tested = await webhooks.test(caller, id_of(webhook))
    assert tested.attempt.outcome is AttemptOutcome.CONNECTION_ERROR
    assert tested.attempt.response_status is None


async def test_tests_of_a_webhook_are_limited_for_each_by_itself(database_url: str) -> None:
    async with open_house(database_url) as house, Receiver() as receiver:
        caller = await new_caller(replace(house.desk, limits=Limits(tests_per_minute=2)))
        one, other = await create(caller, url=receiver.url), await create(caller, url=receiver.url)
        for _ in range(2):
            await webhooks.test(caller, id_of(one))
        refusal = await refused(webhooks.test(caller, id_of(one)), RateLimited)
        assert 0 < refusal.retry_after_seconds <= 60
        await webhooks.test(caller, id_of(other))
    assert len(receiver.requests) == 3


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("given", "path", "code"),
    [
        ({"event_type": ""}, "eventType", "INVALID_FORMAT"),
        ({"event_type": "order.*"}, "eventType", "INVALID_FORMAT"),
        ({"event_type": "x" * 201}, "eventType", "INVALID_FORMAT"),
        ({"data": float("nan")}, "data", "INVALID_FORMAT"),
        ({"data": "\ud800"}, "data", "INVALID_FORMAT"),
        ({"data": "x" * 262_143}, "data", "TOO_LARGE"),
    ],
)
async def test_a_test_keeps_the_rules_of_events(caller: Caller, given: dict[str, Any], path: str, code: str) -> None:
    webhook = await create(caller)
    refusal = await refused(webhooks.test(caller, id_of(webhook), **given), ValidationFailed)
    assert [(p.path, str(p.code)) for p in refusal.fields] == [((path,), code)]


# ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def found(caller: Caller, **filter: Any) -> list[str | None]:
    page = await webhooks.list_(caller, WebhookFilter(**filter), PageRequest(first=100))
    assert await webhooks.count(caller, WebhookFilter(**filter)) == len(page.items)
    return [webhook.name for webhook in reversed(page.items)]


async def test_webhooks_are_found_by_what_they_are(caller: Caller) -> None:
    await create(caller, name="Orders 100%", event_patterns=["order.*"])
    await create(caller, name="orders_all", event_patterns=["*"], status=PAUSED, url=URL + "/All_of-it")
    off = await create(caller, name="Refunds", event_patterns=["refund.made", "order.returned"], status=DISABLED)
    await WebhookHealth.filter(webhook_id=off.id).update(last_delivery_failed=True)
    await create(await new_caller(caller.desk), name="theirs", event_patterns=["*"])
    everything = ["Orders 100%", "orders_all", "Refunds"]

    assert await found(caller) == everything
    assert await found(caller, status=[]) == []
    assert await found(caller, status=[ENABLED]) == ["Orders 100%"]
    assert await found(caller, status=[PAUSED, DISABLED]) == ["orders_all", "Refunds"]
    assert await found(caller, name_contains="ORDER") == ["Orders 100%", "orders_all"]
    assert await found(caller, name_contains="%") == ["Orders 100%"]
    assert await found(caller, name_contains="s_a") == ["orders_all"]
    assert await found(caller, name_contains="\\") == []
    assert await found(caller, name_contains="a\0b") == []
    assert await found(caller, name_contains="\ud800") == []
    assert await found(caller, name_contains="") == everything
    assert await found(caller, url_contains="all_of") == ["orders_all"]
    assert await found(caller, url_contains="\0") == []
    assert await found(caller, matches_event_type="order.created") == ["Orders 100%", "orders_all"]
    assert await found(caller, matches_event_type="order.returned") == everything
    assert await found(caller, matches_event_type="\0") == ["orders_all"]
    assert await found(caller, failing=True) == ["Refunds"]
    assert await found(caller, failing=False) == ["Orders 100%", "orders_all"]
    assert await found(caller, failing=True, status=[ENABLED]) == []


async def test_webhooks_are_counted_by_organization(caller: Caller) -> None:
    others, nobody = await new_caller(caller.desk), new_id()
    for _ in range(2):
        await create(caller)
    await create(others)
    counts = await webhooks.counts_by_organization([caller.organization_id, others.organization_id, nobody])
    assert counts == {caller.organization_id: 2, others.organization_id: 1, nobody: 0}


Operation = Callable[[Caller, str], Awaitable[object]]
ON_ONE: list[Operation] = [
    webhooks.get,
    webhooks.get_for_writing,
    lambda caller, webhook: webhooks.update(caller, webhook, WebhookChange(name="mine now")),
    webhooks.delete,
    webhooks.rotate_secret,
    webhooks.expire_previous_secret,
    webhooks.test,
]


async def test_nothing_of_another_organization_is_found_nor_is_what_is_no_id(caller: Caller) -> None:
    theirs = await create(await new_caller(caller.desk))
    for operation in ON_ONE:
        for given in (
            id_of(theirs),
            UNKNOWN,
            "",
            "whk_",
            str(theirs.id),
            id_of(theirs).upper(),
            f"evt{id_of(theirs)[3:]}",
        ):
            refusal = await refused(operation(caller, given), NotFound)
            assert (refusal.id, refusal.message) == (given, "there is nothing with this id in your organization")
    assert await webhooks.by_ids(caller, [theirs.id]) == {}
    assert await found(caller) == []


async def test_of_a_deleted_organization_nothing_can_be_written(caller: Caller) -> None:
    webhook = await create(caller)
    await Organization.filter(id=caller.organization_id).update(deleted_at=from_ms(1))
    await refused(create(caller), NotFound)
    await refused(webhooks.delete(caller, id_of(webhook)), NotFound)
    await refused(event_types.put(caller, EventTypeDraft("a")), NotFound)
    await refused(events.publish(caller, EventDraft("a", {})), NotFound)
