"""What goes wrong, as callers are told of it; and what they are not told."""

import logging
from typing import Any

import pytest

from models.attempt import Attempt
from resolvers import webhooks
from resolvers.inputs import WebhookDraft
from tests.receivers import Receiver
from tests.schema.door import Door, Tenant

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CREATE = """mutation($input: CreateWebhookInput!) { createWebhook(input: $input) { __typename
  ... on ValidationFailed { code message fields { path code message } } } }"""


async def test_a_bug_is_masked_and_logged_once_under_the_request_id(
    acme: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    caller = await acme.caller()
    async with Receiver() as receiver:
        webhook = (await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))).webhook
        tested = await webhooks.test(caller, (await acme.data("{ webhooks { nodes { id } } }"))["nodes"][0]["id"])
    await Attempt.filter(id=tested.attempt.id).update(request_headers=f"no JSON but {SECRET}")
    assert webhook.id == tested.delivery.webhook_id

    headers = {"x-request-id": "request-of-the-test"}
    asked = "{ deliveries { nodes { status attempts { number request { url } } } } }"
    answer = await acme.door.ask(asked, acme.token, headers)

    [error] = answer["errors"]
    assert error["message"] == "something went wrong on our side; quote request id request-of-the-test"
    assert error["extensions"] == {"code": "INTERNAL_SERVER_ERROR", "requestId": "request-of-the-test"}
    assert error["path"] == ["deliveries", "nodes", 0, "attempts", 0, "request"]
    assert answer["data"] == {
        "deliveries": {"nodes": [{"status": "SUCCEEDED", "attempts": [{"number": 1, "request": None}]}]}
    }
    [logged] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert logged.name == "hookline.graphql"
    assert "request=request-of-the-test" in logged.getMessage()
    assert logged.exc_info is not None


async def test_what_callers_do_wrong_is_not_logged_as_an_error(acme: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    for asked in ("{", "{ no }", "{ organizations { nodes { id } } }", "{ webhooks(first: -1) { nodes { id } } }"):
        assert (await acme.ask(asked))["errors"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_document_that_cannot_be_read_says_where(acme: Tenant) -> None:
    [error] = (await acme.ask("{ viewer { scopes }"))["errors"]
    assert error["message"] == "Syntax Error: Expected Name, found <EOF>."
    assert error["locations"] == [{"line": 1, "column": 20}]
    assert error["extensions"] == {"code": "GRAPHQL_PARSE_FAILED"}


async def test_a_field_that_is_not_there_says_which_was_meant(acme: Tenant) -> None:
    [error] = (await acme.ask("{ webhoks { nodes { id } } }"))["errors"]
    assert error["message"].startswith("Cannot query field 'webhoks' on type 'Query'. Did you mean 'webhooks'")
    assert error["extensions"] == {"code": "GRAPHQL_VALIDATION_FAILED"}


@pytest.mark.parametrize(
    ("input", "message"),
    [
        (
            {"url": "https://1.1.1.1", "eventPatterns": [], "sercet": SECRET},
            "Variable '$input' has invalid value: Expected value of type 'CreateWebhookInput' not to include unknown "
            "field 'sercet'. Did you mean 'secret'?",
        ),
        (
            {"url": "https://1.1.1.1", "secret": SECRET},
            "Variable '$input' has invalid value: Expected value of type 'CreateWebhookInput' to include required "
            "field 'eventPatterns'",
        ),
        (
            {"url": "https://1.1.1.1", "eventPatterns": [], "secret": [SECRET]},
            "Variable '$input' has invalid value at .secret: String cannot represent a non string value",
        ),
        (SECRET, "Variable '$input' has invalid value: Expected value of type 'CreateWebhookInput' to be an object"),
    ],
)
async def test_a_value_of_the_wrong_form_is_named_by_its_place_and_not_repeated(
    acme: Tenant, input: Any, message: str
) -> None:
    answer = await acme.ask(CREATE, input=input)
    [error] = answer["errors"]
    assert error["message"] == message
    assert SECRET not in str(answer)


@pytest.mark.parametrize(
    "literal",
    [
        f'{{ url: "https://1.1.1.1", eventPatterns: [], sercet: "{SECRET}" }}',
        f'{{ url: "https://1.1.1.1", secret: "{SECRET}" }}',
        f'{{ url: "https://1.1.1.1", eventPatterns: [], secret: ["{SECRET}"] }}',
        f'"{SECRET}"',
    ],
)
async def test_a_literal_of_the_wrong_form_is_not_repeated(acme: Tenant, literal: str) -> None:
    answer = await acme.ask(f"mutation {{ createWebhook(input: {literal}) {{ __typename }} }}")
    assert answer["errors"]
    assert SECRET not in str(answer)


@pytest.mark.parametrize(
    "moment",
    ["yesterday", "2026-11-21", "2026-11-21T08:00:00", "2026-13-01T00:00:00Z", 17, "9999-12-31T23:59:59-14:00"],
)
async def test_a_moment_without_a_time_zone_is_no_moment(acme: Tenant, moment: Any) -> None:
    asked = "query($since: DateTime) { events(received: { since: $since }) { nodes { id } } }"
    [error] = (await acme.ask(asked, since=moment))["errors"]
    assert error["message"].startswith("Variable '$since' has invalid value: DateTime must be ")
    assert error["extensions"] == {"code": "GRAPHQL_VALIDATION_FAILED"}


async def test_every_broken_rule_is_told_with_its_path_from_the_argument(acme: Tenant) -> None:
    given = {
        "url": "http://user:pass@1.1.1.1/#x",
        "eventPatterns": ["order.*", "order.*", "not an event"],
        "description": "x" * 201,
        "delivery": {"retryScheduleSeconds": [5, -1]},
        "secret": "hunter2",
    }
    failed = await acme.data(CREATE, input=given)
    assert (failed["__typename"], failed["code"]) == ("ValidationFailed", "VALIDATION_FAILED")
    told = {(".".join(each["path"]), each["code"]) for each in failed["fields"]}
    assert {
        ("input.url", "INVALID_FORMAT"),
        ("input.eventPatterns.1", "DUPLICATE"),
        ("input.eventPatterns.2", "INVALID_FORMAT"),
        ("input.description", "TOO_LONG"),
        ("input.delivery.retryScheduleSeconds.1", "OUT_OF_RANGE"),
        ("input.secret", "INVALID_FORMAT"),
    } <= told
    assert "hunter2" not in str(failed)
    assert await acme.data("{ webhooks { totalCount } }") == {"totalCount": 0}


async def test_one_refusal_does_not_void_the_other_mutations_of_a_document(door: Door) -> None:
    tenant = await door.tenant("Acme", "events:publish")
    answer = await tenant.ask("""mutation {
      no: putEventType(input: { name: "a" }) { ... on Forbidden { requiredScopes } }
      yes: publishEvent(input: { type: "a", data: 1 }) { ... on PublishEventPayload { duplicate } }
    }""")
    assert answer == {"data": {"no": {"requiredScopes": ["admin"]}, "yes": {"duplicate": False}}}
