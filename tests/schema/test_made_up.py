"""Operations that are made up from the schema: refused or taken, no answer is a bug, and each is as the schema says."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest
import schemathesis
from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    NameNode,
    SelectionSetNode,
    Visitor,
    build_schema,
    execute_sync,
    is_input_object_type,
    parse,
    print_ast,
    visit,
)
from graphql.language import ast
from hypothesis import strategies as st
from schemathesis.core.failures import Failure
from schemathesis.engine.recorder import Interaction
from schemathesis.graphql import nodes
from schemathesis.graphql.checks import GraphQLClientError, GraphQLServerError
from schemathesis.schemas import BaseSchema

from schema.sdl import print_sdl
from tests.houses import open_house
from tests.made_up import Amount, made_up
from tests.receivers import Receiver
from tests.schema.door import Door, Tenant
from tests.schema.live import listening

REFUSALS = {
    "FORBIDDEN",
    "LIMIT_EXCEEDED",
    "NOT_FOUND",
    "QUERY_TOO_LARGE",
    "VALIDATION_FAILED",
}
"""Why a field that has no union of results may be refused though its arguments are what the schema wants."""


# ── the schema, as a client has it ──────────────────────────────────────────────────────────────────────────────


def _moment(text: Any) -> Any:
    if isinstance(text, str) and text.endswith("Z") and datetime.fromisoformat(text):
        return text
    raise GraphQLError(f"{text!r} is no moment in UTC")


def _schema() -> GraphQLSchema:
    made = build_schema(print_sdl())
    moment = made.get_type("DateTime")
    assert isinstance(moment, GraphQLScalarType)
    moment.coerce_output_value = _moment
    return made


SCHEMA = _schema()
USER_ERRORS = {member.name for member in SCHEMA.get_possible_types(SCHEMA.type_map["UserError"])}  # type: ignore[arg-type]


# ── what is sent ────────────────────────────────────────────────────────────────────────────────────────────────


def literal(value: Any) -> ast.ValueNode:
    """A JSON value as it stands in a document."""
    match value:
        case None:
            return nodes.Null
        case bool():
            return nodes.Boolean(value)
        case int():
            return nodes.Int(value)
        case float():
            return nodes.Float(value)
        case str():
            return nodes.String(value)
        case list():
            return nodes.List([literal(item) for item in value])
        case _:
            fields = [
                ast.ObjectFieldNode(name=NameNode(value=name), value=literal(part)) for name, part in value.items()
            ]
            return nodes.Object(fields)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), inner),
    max_leaves=8,
)


ONE_OF = [set(known.fields) for known in SCHEMA.type_map.values() if is_input_object_type(known) and known.is_one_of]
LEFT_OUT: Any = object()
PLAUSIBLE: dict[str, Any] = {
    "first": 3,
    "name": "order.made",
    "type": "order.created",
    "types": ["order.*"],
    "eventPatterns": ["order.*"],
    "url": "https://1.1.1.1/hooks",
    "scopes": ["webhooks:read"],
    **dict.fromkeys(
        ("last", "before", "after", "secret", "idempotencyKey", "signatures", "apiVersion", "delivery"), LEFT_OUT
    ),
    **dict.fromkeys(("customHeaders", "occurredAt", "expiresAt", "ifRevision", "schema", "externalId"), LEFT_OUT),
}
"""What arguments must be for anything to be done at all, whatever they are beside them."""


class _Completed(Visitor):
    """Asks for the type of each object: the members of a union cannot be told apart otherwise.

    `plausible`: puts what is PLAUSIBLE in the place of what was made up. None: what was made up is to be refused.
    """

    def __init__(self, *, plausible: bool | None) -> None:
        super().__init__()
        self._plausible = plausible

    def leave_selection_set(self, node: SelectionSetNode, *_: Any) -> SelectionSetNode:
        name = FieldNode(name=NameNode(value="__typename"))
        return SelectionSetNode(selections=(name, *node.selections))

    def leave_object_value(self, node: ast.ObjectValueNode, *_: Any) -> Any:
        """Of an input that takes one field of several, it is made up as if it took them all."""
        names = {field.name.value for field in node.fields}
        given = [field for field in node.fields if not isinstance(field.value, ast.NullValueNode)]
        one_of = self._plausible is not None and any(names <= fields for fields in ONE_OF)
        return ast.ObjectValueNode(fields=tuple(given[:1])) if one_of else None

    def leave_argument(self, node: ast.ArgumentNode, *_: Any) -> Any:
        return self._given(node)

    def leave_object_field(self, node: ast.ObjectFieldNode, *_: Any) -> Any:
        return self._given(node)

    def _given(self, node: ast.ArgumentNode | ast.ObjectFieldNode) -> Any:
        value = PLAUSIBLE.get(node.name.value) if self._plausible else None
        if value is LEFT_OUT:
            return self.REMOVE
        return None if value is None else type(node)(name=node.name, value=literal(value))


def loaded(url: str, config: schemathesis.Config, headers: dict[str, str]) -> BaseSchema:
    schema = schemathesis.graphql.from_url(url, config=config, headers=headers)

    @schema.hook
    def map_case(context: schemathesis.HookContext, case: Any) -> Any:
        refused = case.meta.generation.mode is schemathesis.GenerationMode.NEGATIVE
        plausible = None if refused else len(case.body) % 2 == 0
        case.body = print_ast(visit(parse(case.body), _Completed(plausible=plausible)))
        return case

    return schema


# ── what is answered ────────────────────────────────────────────────────────────────────────────────────────────


def is_excused(failure: Failure, interaction: Interaction) -> bool:
    """Refusals of plain fields are errors beside the data; schemathesis takes them for the server's own.

    Nor does it know @oneOf, whose inputs it makes up with no field at all.
    """
    answer = _answer(interaction)
    is_known = set(_codes(answer)) <= REFUSALS
    is_one_of = all(error["message"].startswith("OneOf Input Object ") for error in answer.get("errors", ()))
    return isinstance(failure, GraphQLServerError | GraphQLClientError) and (is_known or is_one_of)


def problem_of(interaction: Interaction) -> str | None:
    """What is wrong with an answer."""
    response = interaction.response
    assert response is not None
    if response.status_code != 200 or response.headers["content-type"] != ["application/json; charset=utf-8"]:
        return f"answered as {response.status_code} {response.headers['content-type']}"
    answer = _answer(interaction)
    if {None, "INTERNAL_SERVER_ERROR"} & set(_codes(answer)):
        return "a bug of ours"
    if answer.get("data") is None:
        return None if answer.get("errors") else "neither data nor errors"
    sent: dict[str, Any] = json.loads(interaction.request.body or b"")
    return outside(SCHEMA, sent["query"], answer["data"])


def is_done(interaction: Interaction) -> bool:
    """Whether a field was neither refused nor null."""
    answer = _answer(interaction)
    values = [value for value in (answer.get("data") or {}).values() if value is not None]
    refused = [value for value in values if isinstance(value, dict) and value["__typename"] in USER_ERRORS]
    return "errors" not in answer and len(refused) < len(values)


def outside(schema: GraphQLSchema, document: str, data: Any) -> str | None:
    """What of an answer the schema does not allow. An answer that is queried as it was asked for comes out the same."""
    again = execute_sync(schema, parse(document), data, field_resolver=_taken, type_resolver=_named)
    if again.errors:
        return f"outside the schema: {again.errors[0]}"
    return None if again.data == data else f"outside the schema: {again.data} would be inside"


def _answer(interaction: Interaction) -> dict[str, Any]:
    assert interaction.response is not None
    answer: dict[str, Any] = json.loads(interaction.response.content)
    return answer


def _codes(answer: dict[str, Any]) -> list[str | None]:
    return [error.get("extensions", {}).get("code") for error in answer.get("errors", ())]


def _taken(found: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
    return found[info.path.key]


def _named(found: Any, *_: Any) -> str:
    name: str = found["__typename"]
    return name


# ── told together ───────────────────────────────────────────────────────────────────────────────────────────────

WEBHOOK = """
mutation($url: String!) {
  createWebhook(input: { url: $url, eventPatterns: ["*"] }) { ... on CreateWebhookPayload { webhook { id } } }
}"""
EVENT = """
mutation {
  publishEvent(input: { type: "order.created", data: {} }) {
    ... on PublishEventPayload { event { id deliveries(first: 1) { nodes { id } } } }
  }
}"""
TEST = """
mutation($id: ID!) { testWebhook(input: { id: $id }) { ... on TestWebhookPayload { delivery { id } } } }
"""
KEY = """
mutation {
  createApiKey(input: { name: "other", scopes: ["webhooks:read"] }) { ... on CreateApiKeyPayload { apiKey { id } } }
}"""


ORGANIZATION = """
mutation {
  createOrganization(input: { name: "Other" }) { ... on CreateOrganizationPayload { organization { id } } }
}"""


async def ids_of(tenant: Tenant, url: str) -> list[str]:
    """Of one thing of each kind, made for the purpose."""
    webhook = (await tenant.data(WEBHOOK, url=url))["webhook"]["id"]
    event = (await tenant.data(EVENT))["event"]
    tested = (await tenant.data(TEST, id=webhook))["delivery"]["id"]
    key = (await tenant.data(KEY))["apiKey"]["id"]
    organization = (await tenant.data(ORGANIZATION))["organization"]["id"]
    return [organization, webhook, event["id"], *(one["id"] for one in event["deliveries"]["nodes"]), tested, key]


@pytest.mark.parametrize("database_kind", ["postgresql"])  # it refuses more than SQLite does
async def test_whatever_is_asked_is_answered_as_the_schema_says(
    database_url: str, how_many: Amount, record_property: Callable[[str, object], None]
) -> None:
    settings: Any = {"requests_per_second": 0, "max_webhooks": 100_000}
    async with (
        Receiver() as receiver,
        open_house(database_url, **settings) as house,
        listening(house) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        tenant = await Door(client, house).tenant("Acme", "platform", "*")
        ids = await ids_of(tenant, receiver.url)
        schemathesis.graphql.scalar("ID", (st.sampled_from(ids) | TEXTS).map(nodes.String))
        schemathesis.graphql.scalar("Cursor", TEXTS.map(nodes.String))
        schemathesis.graphql.scalar("JSON", JSONS.filter(lambda value: value is not None).map(literal))
        headers = {"Authorization": f"Bearer {tenant.token}"}
        found = await made_up(
            lambda config: loaded(f"http://{address}/graphql", config, headers),
            headers,
            how_many,
            excused=is_excused,
            judge=problem_of,
            is_done=is_done,
        )
    record_property("made up", f"graphql: {found}")
    assert "\n\n".join(found.complaints) == ""


def test_an_answer_outside_the_schema_is_noticed() -> None:
    document = "{ viewer { __typename organization { id createdAt webhookCount } } }"
    organization = {"id": "org_1", "createdAt": "2026-11-21T08:15:30.250Z", "webhookCount": 3}

    def said(**fields: Any) -> str | None:
        return outside(SCHEMA, document, {"viewer": {"__typename": "Viewer", "organization": organization | fields}})

    assert said() is None
    assert said(webhookCount="3") is not None
    assert said(id=None) is not None
    assert said(createdAt="2026-11-21T08:15:30+01:00") is not None
    assert said(secret="whsec_") is not None
