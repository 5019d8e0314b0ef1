"""Documents made to hurt are refused early; sensible ones pass, and are read and judged once."""

import json
import sys
from types import FrameType
from typing import Any, Self

import pytest
from graphql import get_introspection_query

from resolvers.desk import Limits
from schema import limits
from schema.limits import library
from tests.receivers import Answer, Receiver
from tests.schema.door import Tenant, opened


def bomb(links: int) -> str:
    """A chain of fragments, each spread twice by the one before it."""
    chain = [f"fragment F{i} on Query {{ ...F{i + 1} ...F{i + 1} }}" for i in range(links)]
    return " ".join(["{ ...F0 }", *chain, f"fragment F{links} on Query {{ viewer {{ scopes }} }}"])


HOSTILE = {
    "a fragment bomb": (bomb(18), "QUERY_TOO_LARGE"),
    "a long fragment bomb": (bomb(150), "QUERY_TOO_LARGE"),
    "depth": ("{ delivery(id: 1) " + "{ replayOf " * 30 + "{ id }" + " }" * 31, "QUERY_TOO_LARGE"),
    "depth through fragments": (
        "{ ...F0 } " + " ".join(f"fragment F{i} on Query {{ ...F{i + 1} }}" for i in range(200)),
        "QUERY_TOO_LARGE",
    ),
    "aliases": ("{" + " ".join(f"a{i}: viewer {{ scopes }}" for i in range(300)) + "}", "QUERY_TOO_LARGE"),
    "the same field": ("{ viewer {" + "scopes " * 1900 + "} }", "QUERY_TOO_LARGE"),
    "the same field in inline fragments": ("{" + "... { viewer { scopes } } " * 200 + "}", "QUERY_TOO_LARGE"),
    "the same field in fragments": (
        "{"
        + " ".join(f"...F{i}" for i in range(100))
        + "}"
        + " ".join(f"fragment F{i} on Query {{ viewer {{ scopes }} }}" for i in range(100)),
        "QUERY_TOO_LARGE",
    ),
    "tokens": ("{" + "scopes " * 2000 + "}", "GRAPHQL_PARSE_FAILED"),
    "nesting": ("{a" * 900, "GRAPHQL_PARSE_FAILED"),
    "objects": ("{ webhooks(first: 100) { nodes { deliveries(first: 100) { nodes { id } } } } }", "QUERY_TOO_LARGE"),
    "objects by aliases": (
        "{" + " ".join(f"a{i}: deliveries(first: 100) {{ nodes {{ lastAttempt {{ id }} }} }}" for i in range(26)) + "}",
        "QUERY_TOO_LARGE",
    ),
    "objects of a batch": (
        "mutation($i: [PublishEventInput!]!) { publishEvents(input: $i) { ... on PublishEventsPayload { results "
        "{ event { deliveries { nodes { id } } } } } } }",
        "QUERY_TOO_LARGE",
    ),
    "pages in pages in pages": (
        "{ webhooks(first: 1) { nodes { deliveries(first: 1) { nodes { event { deliveries(first: 1) "
        "{ nodes { id } } } } } } } }",
        "QUERY_TOO_LARGE",
    ),
    "introspection": (
        "{" + " ".join(f"a{i}: __schema {{ types {{ name }} }}" for i in range(4)) + "}",
        "QUERY_TOO_LARGE",
    ),
    "introspection by aliases within": (
        "{ __schema {" + " ".join(f"a{i}: types {{ fields {{ name }} }}" for i in range(9)) + "} }",
        "QUERY_TOO_LARGE",
    ),
    "deep introspection": (
        "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "directives": ("{ viewer " + "@x " * 900 + "{ scopes } }", "QUERY_TOO_LARGE"),
    "directives that there are": ("{ viewer " + "@skip(if: false) " * 200 + "{ scopes } }", "QUERY_TOO_LARGE"),
    "directives of operations": ("query " + "@x " * 900 + "{ viewer { scopes } }", "QUERY_TOO_LARGE"),
    "directives of variables": ("query($a: Int " + "@x " * 900 + ") { viewer { scopes } }", "QUERY_TOO_LARGE"),
    "directives of fragments": ("{ ...F } fragment F on Query " + "@x " * 900 + "{ __typename }", "QUERY_TOO_LARGE"),
    "unknown fields": ("{" + " ".join(f"nope{i}" for i in range(1900)) + "}", "GRAPHQL_VALIDATION_FAILED"),
    "operations": (" ".join(f"query Q{i} {{ viewer {{ scopes }} }}" for i in range(200)), "QUERY_TOO_LARGE"),
    "a circle of fragments": (
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "an unused fragment bomb": (bomb(80).replace("{ ...F0 }", "{ __typename }"), "GRAPHQL_VALIDATION_FAILED"),
    "an unused fragment of the same field": (
        "{ __typename } fragment F on Viewer {" + "scopes " * 1900 + "}",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "a second fragment of the same name": (
        "{ ...F } fragment F on Viewer {" + "scopes " * 1900 + "} fragment F on Query { __typename }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "definitions of types": ("{ __typename } type A {" + "a: Int " * 600 + "}", "GRAPHQL_VALIDATION_FAILED"),
    "variables": (
        "query(" + " ".join(f"$v{i}: Int" for i in range(450)) + ") { viewer { scopes } }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "lists of lists in a type": (f"query($v: {'[' * 500}Int{']' * 500}) {{ __typename }}", "GRAPHQL_PARSE_FAILED"),
    "a list of lists": (f"{{ eventTypes(matching: {'[' * 400}{']' * 400}) {{ name }} }}", "GRAPHQL_PARSE_FAILED"),
    "objects in objects": (
        f"{{ webhooks(filter: {'{a:' * 400}1{'}' * 400}) {{ nodes {{ id }} }} }}",
        "GRAPHQL_PARSE_FAILED",
    ),
    "a wide object": (
        "{ webhooks(filter: {" + " ".join(f"a{i}: 1" for i in range(600)) + "}) { nodes { id } } }",
        "QUERY_TOO_LARGE",
    ),
    "a long list": ("{ eventTypes(matching: [" + '"a" ' * 1900 + "]) { name } }", "QUERY_TOO_LARGE"),
    "a huge default": ("query($m: [String!] = [" + '"a" ' * 1900 + "]) { __typename }", "QUERY_TOO_LARGE"),
    "a huge string": ('{ eventTypes(matching: ["%s"]) { name } }' % ("a" * 900_000), "GRAPHQL_PARSE_FAILED"),
    "escapes": ('{ eventTypes(matching: ["%s"]) { name } }' % ("\\u0061" * 140_000), "GRAPHQL_PARSE_FAILED"),
    "a block of lines": ('{ eventTypes(matching: ["""%s"""]) { name } }' % ("a\n" * 100_000), "GRAPHQL_PARSE_FAILED"),
    "a long comment": ("#" + "x" * 900_000 + "\n{ __typename }", "GRAPHQL_PARSE_FAILED"),
    "many comments": ("#\n" * 30_000 + "{ __typename }", "GRAPHQL_PARSE_FAILED"),
    "blanks": (" " * 900_000 + "{ __typename }", "GRAPHQL_PARSE_FAILED"),
    "a huge number": ("{ webhooks(first: %s) { nodes { id } } }" % ("9" * 60_000), "QUERY_TOO_LARGE"),
    "a huge default number": (
        "query($n: Int = %s) { webhooks(first: $n) { nodes { id } } }" % ("9" * 60_000),
        "QUERY_TOO_LARGE",
    ),
    "a huge name": ("{ " + "a" * 60_000 + " }", "GRAPHQL_VALIDATION_FAILED"),
}


MOST_LINES = 1_500_000
"""Of Python, run for an answer that refuses: on every machine the same, however busy it is. The dearest below takes
680,000, and 12.7 million where fields are merged without a limit."""


class Lines:
    """Counts lines as they are run in this thread, whoever wrote them. What C does within one of them, it does not see:
    the longest of such steps are as long as a body may be."""

    def __init__(self) -> None:
        self.run = 0

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _note(self, frame: FrameType, event: str, argument: object) -> Any:
        self.run += 1
        return self._note


async def refused(tenant: Tenant, document: str, **variables: Any) -> list[Any]:
    """The errors of an answer without data, which takes little."""
    with Lines() as lines:
        answer = await tenant.ask(document, **variables)
    assert lines.run < MOST_LINES
    assert "data" not in answer
    errors: list[Any] = answer["errors"]
    return errors


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_document_is_refused_before_it_costs_anything(acme: Tenant, name: str) -> None:
    document, code = HOSTILE[name]
    errors = await refused(acme, document)
    assert {error["extensions"]["code"] for error in errors} == {code}
    assert len(errors) <= limits.MAX_ERRORS + 1


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_document_is_refused_over_and_over(acme: Tenant, name: str) -> None:
    """What is remembered of a document is no way round its limits."""
    document, code = HOSTILE[name]
    for _ in range(2):
        assert {error["extensions"]["code"] for error in await refused(acme, document)} == {code}


TYPES = "query($m: [String!]) { eventTypes(matching: $m) { name } }"
WEBHOOKS = "query($f: WebhookFilterInput) { webhooks(filter: $f) { nodes { id } } }"
PUBLISH = "mutation($i: [PublishEventInput!]!) { publishEvents(input: $i) { __typename } }"
HOSTILE_VARIABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "a long list": (TYPES, {"m": ["a"] * 150_000}),
    "a long list of what it must not hold": (TYPES, {"m": [17] * 150_000}),
    "a long list of lists": (TYPES, {"m": [["a"]] * 80_000}),
    "a long list within": (WEBHOOKS, {"f": {"status": ["NOPE"] * 100_000}}),
    "unknown fields": (WEBHOOKS, {"f": {f"a{i}": 1 for i in range(50_000)}}),
    "events": (PUBLISH, {"i": [{"type": "a", "data": 1}] * 20_000}),
    "no events": (PUBLISH, {"i": [{"x": 1}] * 50_000}),
}


@pytest.mark.parametrize("name", HOSTILE_VARIABLES)
async def test_huge_variables_are_refused_before_they_are_looked_at_one_by_one(acme: Tenant, name: str) -> None:
    document, variables = HOSTILE_VARIABLES[name]
    [error] = await refused(acme, document, **variables)
    assert error["extensions"]["code"] == "QUERY_TOO_LARGE"
    assert error["message"] == "the variables hold more than 6000 values: send them in several requests"


async def test_data_within_the_variables_is_not_counted_and_a_thousand_events_pass(acme: Tenant) -> None:
    now, data = "2026-11-21T00:00:00Z", {"n": list(range(20))}
    events = [{"type": "a", "data": data, "occurredAt": now, "idempotencyKey": str(i)} for i in range(1000)]
    assert await acme.data(PUBLISH, i=events) == {"__typename": "PublishEventsPayload"}
    assert await acme.data(PUBLISH, i=[*events, events[0]]) == {"__typename": "ValidationFailed"}


async def test_a_list_of_operations_is_refused_unread(acme: Tenant) -> None:
    body = json.dumps([{"query": "{ __typename }"}] * 20_000).encode()
    headers = {"authorization": f"Bearer {acme.token}", "content-type": "application/json"}
    read = library.read
    answer = await acme.door.client.post("/graphql", content=body, headers=headers)
    assert (answer.status_code, library.read) == (400, read)


async def test_an_operation_that_takes_too_long_is_ended(database_url: str) -> None:
    create = """mutation($u: String!) { createWebhook(input: { url: $u, eventPatterns: ["*"] }) {
      ... on CreateWebhookPayload { webhook { id } } } }"""
    test = "mutation($i: ID!) { testWebhook(input: { id: $i }) { __typename } }"
    async with Receiver(Answer(delay=30)) as receiver, opened(database_url, operation_seconds=0.2) as door:
        acme = await door.tenant("Acme")
        webhook = (await acme.data(create, u=receiver.url))["webhook"]["id"]
        [error] = (await acme.ask(test, i=webhook))["errors"]
        assert error["message"] == "the operation was ended after 0.2 s: ask for less at once"
        assert error["extensions"] == {"code": "OPERATION_TIMEOUT"}
        assert await acme.data("{ viewer { organization { id } } }") == {"organization": {"id": acme.id}}


SENSIBLE = {
    "introspection": get_introspection_query(input_value_deprecation=True, specified_by_url=True),
    "the failing webhooks": """query Failing { webhooks(first: 20, filter: { failing: true }) { nodes { id url
        disabledReason stats(window: DAY) { successRate consecutiveFailures latencyMs { p95 } }
        deliveries(first: 5, filter: { status: [DEAD_LETTERED] }) { nodes { id event { type }
          lastAttempt { outcome response { statusCode bodyExcerpt } request { curl } } } } } } }""",
    "a page with everything": """{ deliveries(first: 100) { totalCount pageInfo { endCursor } edges { cursor node {
        id status event { type data } webhook { url }
        attempts { number outcome request { url } response { statusCode } } } } } }""",
    "charts of all webhooks": "{ webhooks(first: 50) { nodes { id day: stats { buckets { start attempts } } } } }",
}


@pytest.mark.parametrize("name", SENSIBLE)
async def test_a_sensible_document_passes(acme: Tenant, name: str) -> None:
    answer = await acme.ask(SENSIBLE[name])
    assert "errors" not in answer


async def test_the_thirteenth_level_is_refused_and_the_twelfth_is_not(acme: Tenant) -> None:
    def levels(count: int) -> str:
        return "{ delivery(id: 1) " + "{ replayOf " * (count - 2) + "{ id }" + " }" * (count - 2) + " }"

    assert "errors" not in await acme.ask(levels(12))
    [error] = (await acme.ask(levels(13)))["errors"]
    assert error["message"] == "the query asks for 13 where at most 12 are allowed: levels of fields"


async def test_page_sizes_in_variables_count_as_what_they_are(acme: Tenant) -> None:
    document = """query($a: Int!, $b: Int = 100) {
      webhooks(first: $a) { nodes { deliveries(first: $b) { nodes { id } } } }
    }"""
    assert "errors" not in await acme.ask(document, a=20)
    assert "errors" not in await acme.ask(document, a=100, b=20)
    [error] = (await acme.ask(document, a=100))["errors"]
    assert error["extensions"]["code"] == "QUERY_TOO_LARGE"


async def test_a_page_of_more_than_a_hundred_is_refused_naming_the_argument(acme: Tenant) -> None:
    answer = await acme.ask("{ webhooks(first: 101) { nodes { id } } }")
    assert answer["data"] == {"webhooks": None}
    [error] = answer["errors"]
    assert error["extensions"] == {
        "code": "VALIDATION_FAILED",
        "fields": [{"path": ["first"], "code": "OUT_OF_RANGE", "message": "must be between 0 and 100"}],
    }


async def test_a_document_is_read_and_judged_once_however_often_it_comes(acme: Tenant) -> None:
    document = "query Once($id: ID!) { webhook(id: $id) { id url name } }"
    await acme.ask(document, id="whk_1")
    before = library.read, library.judged
    for i in range(20):
        await acme.ask(document, id=f"whk_{i}")
    assert (library.read, library.judged) == before


async def test_a_very_long_document_is_not_kept(acme: Tenant) -> None:
    kept = len(library)
    answer = await acme.ask(f'{{ eventTypes(matching: ["{"a" * 20_000}"]) {{ name }} }}')
    assert answer == {"data": {"eventTypes": []}}
    assert len(library) == kept


async def test_of_many_documents_the_latest_are_kept(acme: Tenant) -> None:
    for i in range(300):
        await acme.ask(f"query Q{i} {{ __typename }}")
    assert len(library) == 256
    before = library.read
    await acme.ask("query Q299 { __typename }")
    await acme.ask("query Q44 { __typename }")
    assert library.read == before
    await acme.ask("query Q43 { __typename }")
    assert library.read == before + 1


def test_the_depth_that_callers_are_told_is_the_one_that_holds() -> None:
    assert Limits().max_query_depth == limits.MAX_DEPTH
