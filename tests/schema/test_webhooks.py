"""What can be done with a webhook, and what each answer looks like."""

import base64
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.receivers import Answer, Receiver
from tests.schema.door import Door, Tenant
from tests.schema.everything import SCHEMA

WEBHOOK = "id url name description eventPatterns apiVersion status revision metadata"
CREATE = f"""mutation($input: CreateWebhookInput!) {{ createWebhook(input: $input) {{ __typename
  ... on CreateWebhookPayload {{ secret webhook {{ {WEBHOOK}
    payload {{ envelope }} delivery {{ timeoutSeconds maxAttempts retryScheduleSeconds maxPerSecond }} customHeaderNames
    signing {{ secretHint profiles {{ scheme headerName }} previousSecretExpiresAt publicKey }} }} }}
  ... on LimitExceeded {{ limit }} ... on UserError {{ code message }} }} }}"""
UPDATE = f"""mutation($input: UpdateWebhookInput!) {{ updateWebhook(input: $input) {{ __typename
  ... on UpdateWebhookPayload {{ webhook {{ {WEBHOOK} disabledReason payload {{ envelope }}
    delivery {{ maxAttempts maxPerSecond }} customHeaderNames }} }}
  ... on RevisionConflict {{ current {{ name revision }} }}
  ... on ValidationFailed {{ fields {{ path code }} }} ... on UserError {{ code }} }} }}"""
ROTATE = """mutation($input: RotateWebhookSecretInput!) { rotateWebhookSecret(input: $input) { __typename
  ... on RotateWebhookSecretPayload { secret expires: previousSecretExpiresAt
    webhook { signing { secretHint previousSecretExpiresAt } } }
  ... on RotationInProgress { until: previousSecretExpiresAt } ... on UserError { code } } }"""


async def created(tenant: Tenant, **given: Any) -> dict[str, Any]:
    """The payload of a new webhook."""
    payload = await tenant.data(CREATE, input={"url": "https://1.1.1.1/hook", "eventPatterns": ["*"]} | given)
    assert payload["__typename"] == "CreateWebhookPayload", payload
    found: dict[str, Any] = payload
    return found


async def updated(tenant: Tenant, webhook: dict[str, Any], **given: Any) -> Any:
    return await tenant.data(UPDATE, input={"id": webhook["id"]} | given)


async def test_a_webhook_is_created_with_everything_that_can_be_said_of_it(acme: Tenant) -> None:
    payload = await created(
        acme,
        eventPatterns=["order.*", "user.created"],
        name="Shop",
        description="Of the shop",
        payload={"envelope": "BARE_DATA"},
        delivery={"timeoutSeconds": 2.5, "maxAttempts": 3, "retryScheduleSeconds": [1, 2], "maxPerSecond": 9},
        signatures=[{"scheme": "STANDARD_WEBHOOKS"}, {"scheme": "PREFIXED_HEX", "headerName": "X-Signature"}],
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        customHeaders=[{"name": "X-Tenant", "value": "seven"}],
        metadata={"nested": [1, {"a": None}]},
        status="PAUSED",
    )
    assert payload["secret"] == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    webhook = payload["webhook"]
    assert {name: webhook[name] for name in ("url", "name", "description", "status", "revision", "metadata")} == {
        "url": "https://1.1.1.1/hook",
        "name": "Shop",
        "description": "Of the shop",
        "status": "PAUSED",
        "revision": 1,
        "metadata": {"nested": [1, {"a": None}]},
    }
    assert webhook["eventPatterns"] == ["order.*", "user.created"]
    assert webhook["payload"] == {"envelope": "BARE_DATA"}
    assert webhook["delivery"] == {
        "timeoutSeconds": 2.5,
        "maxAttempts": 3,
        "retryScheduleSeconds": [1, 2],
        "maxPerSecond": 9,
    }
    assert webhook["customHeaderNames"] == ["X-Tenant"]
    assert webhook["signing"] == {
        "secretHint": "LaSw",
        "profiles": [
            {"scheme": "STANDARD_WEBHOOKS", "headerName": "webhook-signature"},
            {"scheme": "PREFIXED_HEX", "headerName": "X-Signature"},
        ],
        "previousSecretExpiresAt": None,
        "publicKey": None,
    }


async def test_a_secret_is_shown_once_and_never_again(acme: Tenant) -> None:
    secret = (await created(acme))["secret"]
    assert secret.startswith("whsec_")
    webhook = SCHEMA.get_type("Webhook")
    signing = SCHEMA.get_type("SigningInfo")
    assert {name for type_ in (webhook, signing) for name in type_.fields if "secret" in name.lower()} == {  # type: ignore[union-attr]
        "secretHint",
        "secretCreatedAt",
        "previousSecretExpiresAt",
    }
    everything = "{ webhooks { nodes { id url signing { secretHint publicKey } metadata customHeaderNames } } }"
    assert secret not in json.dumps(await acme.data(everything))


async def test_an_asymmetric_webhook_shows_its_public_key(acme: Tenant) -> None:
    payload = await created(acme, signatures=[{"scheme": "STANDARD_WEBHOOKS_ED25519"}])
    key = payload["webhook"]["signing"]["publicKey"]
    assert key.startswith("whpk_")
    Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))


async def test_the_same_idempotency_key_returns_the_first_webhook_without_its_secret(acme: Tenant) -> None:
    first = await created(acme, idempotencyKey="once")
    again = await created(acme, idempotencyKey="once")
    assert (again["webhook"]["id"], again["secret"]) == (first["webhook"]["id"], None)
    other = await acme.data(
        CREATE, input={"url": "https://1.1.1.1/2", "eventPatterns": ["*"], "idempotencyKey": "once"}
    )
    assert (other["__typename"], other["code"]) == ("IdempotencyConflict", "IDEMPOTENCY_CONFLICT")
    assert await acme.data("{ webhooks { totalCount } }") == {"totalCount": 1}


async def test_the_limit_of_webhooks_is_told_with_its_figure(door: Door) -> None:
    platform = await door.tenant("Platform", "platform", "*")
    organization = platform.id
    limit = """mutation($id: ID!) { updateOrganization(input: { id: $id, maxWebhooks: 1 }) { __typename } }"""
    assert await platform.data(limit, id=organization) == {"__typename": "UpdateOrganizationPayload"}
    first = (await created(platform))["webhook"]
    refused = await platform.data(CREATE, input={"url": "https://1.1.1.1/2", "eventPatterns": ["*"]})
    assert (refused["__typename"], refused["code"], refused["limit"]) == ("LimitExceeded", "LIMIT_EXCEEDED", 1)
    await updated(platform, first, status="DISABLED")
    await created(platform)
    assert await updated(platform, first, status="ENABLED") == {"__typename": "LimitExceeded", "code": "LIMIT_EXCEEDED"}


async def test_what_is_left_out_of_an_update_stays_and_null_clears(acme: Tenant) -> None:
    webhook = (
        await created(
            acme,
            name="Shop",
            description="Of the shop",
            metadata={"a": 1},
            delivery={"maxPerSecond": 5, "maxAttempts": 4},
            customHeaders=[{"name": "X-A", "value": "1"}],
        )
    )["webhook"]
    same = (await updated(acme, webhook))["webhook"]
    assert {name: same[name] for name in WEBHOOK.split() if name != "revision"} == {
        name: webhook[name] for name in WEBHOOK.split() if name != "revision"
    }
    assert same["delivery"] == {"maxAttempts": 4, "maxPerSecond": 5}
    cleared = (
        await updated(acme, webhook, name=None, metadata=None, delivery={"maxPerSecond": None}, customHeaders=None)
    )["webhook"]
    assert (cleared["name"], cleared["metadata"], cleared["customHeaderNames"]) == (None, None, [])
    assert cleared["delivery"] == {"maxAttempts": 4, "maxPerSecond": None}
    assert cleared["description"] == "Of the shop"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("url", "url"),
        ("eventPatterns", "eventPatterns"),
        ("apiVersion", "apiVersion"),
        ("payload", "payload"),
        ("delivery", "delivery"),
        ("signatures", "signatures"),
        ("status", "status"),
    ],
)
async def test_null_is_refused_where_there_must_be_something(acme: Tenant, name: str, shown: str) -> None:
    webhook = (await created(acme))["webhook"]
    refused = await updated(acme, webhook, name="new", **{name: None})
    assert refused == {
        "__typename": "ValidationFailed",
        "code": "VALIDATION_FAILED",
        "fields": [{"path": ["input", shown], "code": "REQUIRED"}],
    }
    assert (await acme.data("{ webhooks { nodes { name revision } } }"))["nodes"] == [{"name": None, "revision": 1}]


@pytest.mark.parametrize(
    ("patch", "patterns"),
    [
        ({"replace": ["c"]}, ["c"]),
        ({"add": ["c", "a"]}, ["a", "b", "c"]),
        ({"remove": ["a", "x"]}, ["b"]),
    ],
)
async def test_patterns_are_replaced_added_or_removed(acme: Tenant, patch: Any, patterns: list[str]) -> None:
    webhook = (await created(acme, eventPatterns=["a", "b"]))["webhook"]
    assert (await updated(acme, webhook, eventPatterns=patch))["webhook"]["eventPatterns"] == patterns


@pytest.mark.parametrize("patch", [{}, {"add": ["c"], "remove": ["a"]}, {"add": None}, {"replace": ["c"], "add": None}])
async def test_a_patch_of_patterns_is_exactly_one_of_three(acme: Tenant, patch: Any) -> None:
    webhook = (await created(acme, eventPatterns=["a"]))["webhook"]
    answer = await acme.ask(UPDATE, input={"id": webhook["id"], "eventPatterns": patch})
    [error] = answer["errors"]
    assert error["extensions"] == {"code": "GRAPHQL_VALIDATION_FAILED"}
    assert (await acme.data("{ webhooks { nodes { eventPatterns } } }"))["nodes"] == [{"eventPatterns": ["a"]}]


async def test_the_last_pattern_cannot_be_removed(acme: Tenant) -> None:
    webhook = (await created(acme, eventPatterns=["a"]))["webhook"]
    patches: list[dict[str, list[str]]] = [{"remove": ["a"]}, {"replace": []}]
    for patch in patches:
        refused = await updated(acme, webhook, eventPatterns=patch)
        assert refused["fields"] == [{"path": ["input", "eventPatterns"], "code": "TOO_SHORT"}]


async def test_an_update_of_an_old_revision_is_refused_with_what_stands_now(acme: Tenant) -> None:
    webhook = (await created(acme))["webhook"]
    await updated(acme, webhook, name="first", ifRevision=1)
    refused = await updated(acme, webhook, name="second", ifRevision=1)
    assert refused == {
        "__typename": "RevisionConflict",
        "code": "REVISION_CONFLICT",
        "current": {"name": "first", "revision": 2},
    }
    late = "mutation($id: ID!) { deleteWebhook(input: { id: $id, ifRevision: 1 }) { __typename } }"
    assert await acme.data(late, id=webhook["id"]) == {"__typename": "RevisionConflict"}


async def test_turning_a_webhook_off_and_on_says_why_it_was_off(acme: Tenant) -> None:
    webhook = (await created(acme))["webhook"]
    off = (await updated(acme, webhook, status="DISABLED"))["webhook"]
    assert (off["status"], off["disabledReason"]) == ("DISABLED", "MANUAL")
    on = (await updated(acme, webhook, status="ENABLED"))["webhook"]
    assert (on["status"], on["disabledReason"]) == ("ENABLED", None)


async def test_a_rotation_overlaps_until_it_is_ended_or_forced(acme: Tenant) -> None:
    payload = await created(acme)
    webhook = payload["webhook"]["id"]
    first = await acme.data(ROTATE, input={"id": webhook, "overlapSeconds": 3600})
    assert first["secret"] != payload["secret"]
    assert first["webhook"]["signing"] == {
        "secretHint": first["secret"][-4:],
        "previousSecretExpiresAt": first["expires"],
    }
    open_for = datetime.fromisoformat(first["expires"]) - datetime.now().astimezone()
    assert timedelta(minutes=55) < open_for <= timedelta(hours=1)

    second = await acme.data(ROTATE, input={"id": webhook})
    assert second == {"__typename": "RotationInProgress", "code": "ROTATION_IN_PROGRESS", "until": first["expires"]}
    forced = await acme.data(ROTATE, input={"id": webhook, "force": True})
    assert forced["secret"] not in (payload["secret"], first["secret"])

    expire = """mutation($id: ID!) { expirePreviousWebhookSecret(input: { id: $id }) {
      ... on ExpirePreviousWebhookSecretPayload { webhook { signing { secretHint previousSecretExpiresAt } } } } }"""
    ended = await acme.data(expire, id=webhook)
    assert ended["webhook"]["signing"] == {"secretHint": forced["secret"][-4:], "previousSecretExpiresAt": None}
    cut = await acme.data(ROTATE, input={"id": webhook, "overlapSeconds": 0})
    assert cut["expires"] is None


async def test_a_deleted_webhook_is_gone_and_what_waited_is_canceled(acme: Tenant) -> None:
    webhook = (await created(acme))["webhook"]["id"]
    await acme.data('mutation { publishEvent(input: { type: "a", data: 1 }) { __typename } }')
    delete = """mutation($id: ID!) { deleteWebhook(input: { id: $id }) { __typename
      ... on DeleteWebhookPayload { deletedWebhookId canceledDeliveries } ... on NotFound { id code } } }"""
    assert await acme.data(delete, id=webhook) == {
        "__typename": "DeleteWebhookPayload",
        "deletedWebhookId": webhook,
        "canceledDeliveries": 1,
    }
    assert await acme.data("query($id: ID!) { webhook(id: $id) { id } }", id=webhook) is None
    assert await acme.data("{ deliveries { nodes { status webhook { id } } } }") == {
        "nodes": [{"status": "CANCELED", "webhook": None}]
    }
    again = await acme.data(delete, id=webhook)
    assert again == {"__typename": "NotFound", "code": "NOT_FOUND", "id": webhook}


TEST = """mutation($input: TestWebhookInput!) { testWebhook(input: $input) { __typename ... on TestWebhookPayload {
  delivery { id trigger status attempts { id } lastAttempt { id } event { id } }
  attempt { number outcome error durationMs delivery { id }
    request { url bodyBytes headers { name value } curl body } response { statusCode bodyExcerpt bodyTruncated } } }
  ... on UserError { code } } }"""


async def test_a_test_shows_what_was_sent_and_what_was_answered(acme: Tenant) -> None:
    async with Receiver(Answer(201, body=b"thanks")) as receiver:
        webhook = (await created(acme, url=receiver.url, customHeaders=[{"name": "X-Key", "value": "hush"}]))["webhook"]
        tested = await acme.data(TEST, input={"id": webhook["id"], "eventType": "order.paid", "data": {"n": "ü"}})
    [received] = receiver.requests
    delivery, attempt = tested["delivery"], tested["attempt"]
    assert (delivery["trigger"], delivery["status"]) == ("TEST", "SUCCEEDED")
    assert (attempt["number"], attempt["outcome"], attempt["error"]) == (1, "SUCCESS", None)
    assert attempt["delivery"] == {"id": delivery["id"]}
    request = attempt["request"]
    assert request["url"] == receiver.url
    assert request["body"].encode() == received.body
    assert request["bodyBytes"] == len(received.body)
    assert json.loads(request["body"])["data"] == {"n": "ü"}
    shown = {header["name"].lower(): header["value"] for header in request["headers"]}
    assert shown["webhook-signature"] == received.header("webhook-signature")
    assert received.header("X-Key") == "hush"
    assert "hush" not in json.dumps(tested)
    assert request["curl"].startswith("curl ")
    assert receiver.url in request["curl"]
    assert attempt["response"] == {"statusCode": 201, "bodyExcerpt": "thanks", "bodyTruncated": False}


async def test_a_key_that_may_only_write_sees_its_own_test_but_not_the_event(door: Door) -> None:
    async with Receiver(500) as receiver:
        tenant = await door.tenant("Acme", "webhooks:write")
        webhook = (await created(tenant, url=receiver.url))["webhook"]
        answer = await tenant.ask(TEST, input={"id": webhook["id"]})
    tested = answer["data"]["testWebhook"]
    assert tested["delivery"]["lastAttempt"] is not None
    assert len(tested["delivery"]["attempts"]) == 1
    assert (tested["attempt"]["outcome"], tested["attempt"]["response"]["statusCode"]) == ("HTTP_ERROR", 500)
    assert (tested["delivery"]["event"], tested["attempt"]["request"]["body"]) == (None, None)
    assert "--data" not in tested["attempt"]["request"]["curl"]
    assert [error["extensions"] for error in answer["errors"]] == [
        {"code": "FORBIDDEN", "requiredScopes": ["events:read"]}
    ] * 2


async def test_an_event_is_published_once_under_one_key(acme: Tenant) -> None:
    await created(acme)
    publish = """mutation($input: PublishEventInput!) { publishEvent(input: $input) { __typename
      ... on PublishEventPayload { duplicate matchedWebhookCount event { id type data sizeBytes occurredAt } }
      ... on UserError { code } } }"""
    given = {"type": "order.paid", "data": {"n": 1}, "idempotencyKey": "k", "occurredAt": "2026-01-02T03:04:05+01:00"}
    first = await acme.data(publish, input=given)
    again = await acme.data(publish, input=given)
    assert (first["duplicate"], first["matchedWebhookCount"]) == (False, 1)
    assert first["event"] | {"id": ""} == {
        "id": "",
        "type": "order.paid",
        "data": {"n": 1},
        "sizeBytes": 7,
        "occurredAt": "2026-01-02T02:04:05.000Z",
    }
    assert (again["duplicate"], again["event"]["id"]) == (True, first["event"]["id"])
    other = await acme.data(publish, input=given | {"data": {"n": 2}})
    assert other == {"__typename": "IdempotencyConflict", "code": "IDEMPOTENCY_CONFLICT"}


async def test_of_many_events_all_are_published_or_none(acme: Tenant) -> None:
    publish = """mutation($input: [PublishEventInput!]!) { publishEvents(input: $input) { __typename
      ... on PublishEventsPayload { results { event { type } } }
      ... on ValidationFailed { fields { path code } } } }"""
    await acme.data('mutation { putEventType(input: { name: "known" }) { __typename } }')
    good, bad = {"type": "known", "data": 1}, {"type": "unknown", "data": 1}
    refused = await acme.data(publish, input=[good, bad])
    assert refused["fields"] == [{"path": ["input", "1", "type"], "code": "UNKNOWN_EVENT_TYPE"}]
    assert await acme.data("{ events { nodes { id } } }") == {"nodes": []}
    assert await acme.data(publish, input=[good, good]) == {
        "__typename": "PublishEventsPayload",
        "results": [{"event": {"type": "known"}}] * 2,
    }


async def test_the_catalogue_shows_what_a_webhooks_patterns_match(acme: Tenant) -> None:
    put = "mutation($input: PutEventTypeInput!) { putEventType(input: $input) { __typename } }"
    for name in ("order.paid", "order.sent", "user.left"):
        await acme.data(put, input={"name": name, "example": "just text"})
    await created(acme, eventPatterns=["order.*"])
    matching = "{ webhooks { nodes { matchingEventTypes { name example } } } }"
    [webhook] = (await acme.data(matching))["nodes"]
    assert webhook["matchingEventTypes"] == [
        {"name": "order.paid", "example": "just text"},
        {"name": "order.sent", "example": "just text"},
    ]
