"""The OpenAPI document: valid, complete, and with examples that are what they are examples of.

That answers are as it says is checked on every answer of `test_rest.py`.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.contracts import PAGES, pages
from app.rest import openapi_document, routes
from app.rest.routes import dialects
from tests.app.rest_client import Documented

METHODS = ("get", "post", "patch", "delete")


@pytest.fixture(scope="module")
def documented() -> Documented:
    return Documented(openapi_document())


def test_the_document_is_valid_openapi_3_1(documented: Documented) -> None:
    assert documented.document["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(documented.document).iter_errors()) == []


def test_every_operation_is_documented(documented: Documented) -> None:
    operations = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, methods in documented.document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations == {
        "POST /v1/webhooks": "createWebhook",
        "GET /v1/webhooks": "listWebhooks",
        "GET /v1/webhooks/{id}": "getWebhook",
        "PATCH /v1/webhooks/{id}": "changeWebhook",
        "DELETE /v1/webhooks/{id}": "deleteWebhook",
        "POST /v1/webhooks/{id}/rotate-secret": "rotateWebhookSecret",
        "POST /v1/webhooks/{id}/test": "testWebhook",
        "POST /v1/events": "publishEvents",
    }


def test_every_route_is_documented_by_the_contract_it_is_of(documented: Documented) -> None:
    served = {getattr(route, "path", "") for route in routes()}
    paths = {path for contract in pages().values() for path in openapi_document(contract)["paths"]}
    paths |= set(documented.document["paths"])
    roots = {f"/{path.split('/')[1]}" for path in paths}
    documents = {"/openapi.json", *(f"/openapi/{name}.json" for name in PAGES)}
    assert served == {*paths, *documents, *roots, *(f"{root}/{{rest:path}}" for root in roots)}


def test_the_statuses_of_each_operation_are_documented(documented: Documented) -> None:
    statuses = {
        operation["operationId"]: " ".join(operation["responses"])
        for methods in documented.document["paths"].values()
        for operation in methods.values()
    }
    assert statuses == {
        "createWebhook": "201 400 401 403 409 413 415 422 429 500 503",
        "listWebhooks": "200 401 403 422 429 500 503",
        "getWebhook": "200 401 403 404 429 500 503",
        "changeWebhook": "200 400 401 403 404 409 413 415 422 429 500 503",
        "deleteWebhook": "204 401 403 404 429 500 503",
        "rotateWebhookSecret": "200 400 401 403 404 409 413 415 422 429 500 503",
        "testWebhook": "200 400 401 403 404 413 415 422 429 500 503",
        "publishEvents": "201 400 401 403 409 413 415 422 429 500 503",
    }


def test_a_key_is_needed_as_bearer_or_in_its_own_header(documented: Documented) -> None:
    assert documented.document["security"] == [{"bearer": []}, {"apiKey": []}]
    schemes = documented.document["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["apiKey"]["type"], schemes["apiKey"]["in"], schemes["apiKey"]["name"]) == (
        "apiKey",
        "header",
        "x-api-key",
    )


def test_every_operation_can_be_called_for_another_organization(documented: Documented) -> None:
    for methods in documented.document["paths"].values():
        for operation in methods.values():
            assert {"$ref": "#/components/parameters/organization"} in operation["parameters"]
    assert documented.document["components"]["parameters"]["organization"]["name"] == "Hookline-Organization"


def test_both_creating_posts_take_an_idempotency_key(documented: Documented) -> None:
    taking = [
        operation["operationId"]
        for methods in documented.document["paths"].values()
        for operation in methods.values()
        if {"$ref": "#/components/parameters/idempotencyKey"} in operation["parameters"]
    ]
    assert taking == ["createWebhook", "publishEvents"]


def test_every_example_of_a_schema_is_valid_by_it(documented: Documented) -> None:
    examples = [
        (name, example)
        for name, schema in documented.document["components"]["schemas"].items()
        for example in schema.get("examples", ())
    ]
    assert len(examples) >= 10
    for name, example in examples:
        assert documented.complaints({"$ref": f"#/components/schemas/{name}"}, example) == [], name


def test_every_example_of_a_refusal_is_valid_by_its_schema(documented: Documented) -> None:
    refusals = list(_refusals(documented.document))
    assert len(refusals) == 70
    for content in refusals:
        for example in content["examples"].values():
            assert documented.complaints(content["schema"], example["value"]) == []


@pytest.mark.parametrize(
    ("contract", "schema", "field", "known", "unknown"),
    [
        ("native", "NewWebhook", "events", ["order.created", "order.*", "*"], ["", "order..created", "*.created"]),
        ("native", "NewEvent", "type", ["order.created", "ats/application/hired"], ["", "order.*", "order created"]),
        ("verifik", "NewWebhook", "events", ["login.completed", "onboarding_app_registration_created", "*"], ["login"]),
        ("enfinitos", "NewSubscription", "events", ["right.issued", "*"], ["right", "right.*"]),
        ("agentmessage", "NewEndpoint", "events", ["lookup.completed"], ["lookup", "*"]),
        ("factorial", "NewSubscription", "subscription_type", ["ats/application/create"], ["ats/application", "*"]),
        ("factify", "NewEndpoint", "events", ["whatever"], [""]),
    ],
)
def test_the_document_says_which_event_types_are_known(
    contract: str, schema: str, field: str, known: list[str], unknown: list[str]
) -> None:
    documented = Documented(openapi_document(dialects()[contract]))
    described = documented.document["components"]["schemas"][schema]["properties"][field]
    for names, expected in ((known, True), (unknown, False)):
        for name in names:
            value = [name] if described.get("type") == "array" or "anyOf" in described else name
            assert (documented.complaints(described, value) == []) is expected, name


def test_a_parameter_of_another_form_is_documented_as_not_found() -> None:
    document = openapi_document(dialects()["factorial"])
    path = "/api/{version}/resources/api_public/webhook_subscriptions"
    for method in ("get", "post"):
        assert "There is nothing at this path." in document["paths"][path][method]["responses"]["404"]["description"]


def test_an_answer_that_is_not_as_documented_is_noticed(documented: Documented) -> None:
    created = documented.document["components"]["schemas"]["CreatedWebhook"]["examples"][0]
    reference = {"$ref": "#/components/schemas/CreatedWebhook"}
    assert documented.complaints(reference, created) == []
    assert documented.complaints(reference, {**created, "active": "yes"}) == ['"yes" is not of type "boolean"']
    assert documented.complaints(reference, {**created, "created_at": "today"}) == ['"today" is not a "date-time"']
    without = {name: value for name, value in created.items() if name != "org_id"}
    assert documented.complaints(reference, without) == ['"org_id" is a required property']


def test_every_field_and_operation_is_described(documented: Documented) -> None:
    for name, schema in documented.document["components"]["schemas"].items():
        assert schema["description"], name
    for methods in documented.document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert re.search(r"Needs the scope `[a-z]+:[a-z]+`\.$", operation["description"])


def _refusals(document: Any) -> Iterator[Any]:
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    yield response["content"]["application/json"]
