"""previewDelivery and checkSignature as callers meet them; what they find is the resolvers' and tested there."""

from typing import Any

from tests.receivers import Receiver
from tests.schema.door import Tenant

CREATE = """mutation($input: CreateWebhookInput!) {
  createWebhook(input: $input) { ... on CreateWebhookPayload { secret webhook { id } } ... on UserError { message } }
}"""
PREVIEW = """query($input: PreviewDeliveryInput!) {
  previewDelivery(input: $input) {
    __typename
    ... on DeliveryPreview { matched request { url headers { name value } body bodyBytes curl } }
    ... on ValidationFailed { fields { path code } }
    ... on NotFound { id }
    ... on Forbidden { requiredScopes }
  }
}"""
CHECK = """query($input: CheckSignatureInput!) {
  checkSignature(input: $input) {
    __typename
    ... on SignatureReport { valid matchedScheme matchedSecret timestampSkewSeconds problem hint }
    ... on ValidationFailed { fields { path code } }
    ... on NotFound { id }
  }
}"""
DRAFT = {"url": "https://example.com/hooks", "eventPatterns": ["order.*"]}
ORDER = {"type": "order.created", "data": {"id": 42}}
NOWHERE = "whk_01jx5s3k9pe8ratq6y2m4c7v0b"


async def preview(acme: Tenant, target: Any, event: Any, token: str | None = None) -> Any:
    asked = {"target": target, "event": event}
    return await acme.door.data(PREVIEW, token or acme.token, input=asked)


async def test_a_stored_webhook_is_previewed_as_it_would_be_called(acme: Tenant) -> None:
    webhook = (await acme.data(CREATE, input=DRAFT))["webhook"]["id"]
    previewed = await preview(acme, {"webhookId": webhook}, {"custom": ORDER})
    request = previewed["request"]
    assert previewed["matched"] is True
    assert request["url"] == DRAFT["url"]
    assert request["body"].startswith('{"type":"order.created","timestamp":"')
    assert request["body"].endswith('"data":{"id":42}}')
    assert request["bodyBytes"] == len(request["body"])
    assert request["curl"].startswith(f"curl -i -X POST {DRAFT['url']} -H ")
    assert request["curl"].endswith(f"--data-binary '{request['body']}'")
    assert {"host", "webhook-id", "webhook-signature"} <= {header["name"].lower() for header in request["headers"]}


async def test_a_body_of_your_own_is_readable_without_the_scope_for_events_of_others(acme: Tenant) -> None:
    token = await acme.door.key(acme.organization, "webhooks:read")
    previewed = await preview(acme, {"draft": DRAFT}, {"custom": ORDER}, token)
    assert previewed["request"]["body"].endswith('"data":{"id":42}}')
    assert previewed["request"]["body"] in previewed["request"]["curl"]


async def test_whoever_may_only_read_webhooks_has_nothing_signed_with_their_secrets(acme: Tenant) -> None:
    webhook = (await acme.data(CREATE, input=DRAFT))["webhook"]["id"]
    token = await acme.door.key(acme.organization, "webhooks:read")
    refused = await preview(acme, {"webhookId": webhook}, {"custom": ORDER}, token)
    assert refused == {"__typename": "Forbidden", "requiredScopes": ["events:publish"]}


async def test_the_paths_of_a_refused_preview_point_into_the_draft_and_the_event(acme: Tenant) -> None:
    refused = await preview(
        acme, {"draft": DRAFT | {"eventPatterns": ["a", "a"]}}, {"custom": {"type": "no type", "data": 1}}
    )
    assert refused["fields"] == [
        {"path": ["input", "target", "draft", "eventPatterns", "1"], "code": "DUPLICATE"},
        {"path": ["input", "event", "custom", "type"], "code": "INVALID_FORMAT"},
    ]


async def test_what_is_not_there_is_not_previewed(acme: Tenant) -> None:
    refused = await preview(acme, {"webhookId": NOWHERE}, {"custom": ORDER})
    assert refused == {"__typename": "NotFound", "id": NOWHERE}


async def test_a_target_must_be_one_of_the_two(acme: Tenant) -> None:
    for target in ({}, {"webhookId": NOWHERE, "draft": DRAFT}, {"webhookId": None}):
        answer = await acme.ask(PREVIEW, input={"target": target, "event": {"custom": ORDER}})
        assert {error["extensions"]["code"] for error in answer["errors"]} == {"GRAPHQL_VALIDATION_FAILED"}


async def test_what_is_previewed_checks_as_right_and_a_changed_body_as_changed(acme: Tenant) -> None:
    webhook = (await acme.data(CREATE, input=DRAFT))["webhook"]["id"]
    publish = """mutation($input: PublishEventInput!) {
      publishEvent(input: $input) { ... on PublishEventPayload { event { id } } }
    }"""
    event = (await acme.data(publish, input=ORDER))["event"]["id"]
    request = (await preview(acme, {"webhookId": webhook}, {"eventId": event}))["request"]
    seen = {"webhookId": webhook, "headers": request["headers"], "body": request["body"]}

    right = await acme.data(CHECK, input=seen)
    wrong = await acme.data(CHECK, input=seen | {"body": request["body"].replace(":", ": ")})

    assert right | {"timestampSkewSeconds": 0} == {
        "__typename": "SignatureReport",
        "valid": True,
        "matchedScheme": "STANDARD_WEBHOOKS",
        "matchedSecret": "CURRENT",
        "timestampSkewSeconds": 0,
        "problem": None,
        "hint": None,
    }
    assert (wrong["valid"], wrong["problem"]) == (False, "BODY_CHANGED")
    assert wrong["hint"]


async def test_what_a_receiver_got_checks_as_right(acme: Tenant) -> None:
    async with Receiver() as receiver:
        webhook = (await acme.data(CREATE, input=DRAFT | {"url": receiver.url}))["webhook"]["id"]
        await acme.data("mutation($i: ID!) { testWebhook(input: { id: $i }) { __typename } }", i=webhook)
        [sent] = receiver.requests
    headers = [{"name": name, "value": value} for name, value in sent.headers]
    report = await acme.data(CHECK, input={"webhookId": webhook, "headers": headers, "body": sent.body.decode()})
    assert (report["valid"], report["problem"]) == (True, None)


async def test_the_paths_of_a_refused_check_point_at_the_input(acme: Tenant) -> None:
    webhook = (await acme.data(CREATE, input=DRAFT))["webhook"]["id"]
    headers = [{"name": "a", "value": "b"}] * 101
    refused = await acme.data(CHECK, input={"webhookId": webhook, "headers": headers, "body": ""})
    assert refused["fields"] == [{"path": ["input", "headers"], "code": "TOO_MANY"}]


async def test_the_signatures_of_what_is_not_there_are_not_checked(acme: Tenant) -> None:
    refused = await acme.data(CHECK, input={"webhookId": NOWHERE, "headers": [], "body": ""})
    assert refused == {"__typename": "NotFound", "id": NOWHERE}
