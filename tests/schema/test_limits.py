"""Documents made to hurt are refused early; sensible ones pass, and are read and judged once."""

import time

import pytest
from graphql import get_introspection_query

from resolvers.desk import Limits
from schema import limits
from tests.schema.door import Tenant


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
    "directives": ("{ viewer " + "@x " * 900 + "{ scopes } }", "GRAPHQL_VALIDATION_FAILED"),
    "unknown fields": ("{" + " ".join(f"nope{i}" for i in range(1900)) + "}", "GRAPHQL_VALIDATION_FAILED"),
    "operations": (" ".join(f"query Q{i} {{ viewer {{ scopes }} }}" for i in range(200)), "QUERY_TOO_LARGE"),
    "a circle of fragments": (
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_document_is_refused_before_it_costs_anything(acme: Tenant, name: str) -> None:
    document, code = HOSTILE[name]
    began = time.process_time()
    answer = await acme.ask(document)
    assert time.process_time() - began < 1  # seconds of processor; without the limits some of these take minutes
    assert "data" not in answer
    assert {error["extensions"]["code"] for error in answer["errors"]} == {code}
    assert len(answer["errors"]) <= limits.MAX_ERRORS + 1


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
    read, judged = limits.read_once.cache_info().misses, limits.judge_once.cache_info().misses
    for i in range(20):
        await acme.ask(document, id=f"whk_{i}")
    assert (limits.read_once.cache_info().misses, limits.judge_once.cache_info().misses) == (read, judged)


async def test_a_very_long_document_is_not_kept(acme: Tenant) -> None:
    kept = limits.read_once.cache_info().currsize
    answer = await acme.ask(f'{{ eventTypes(matching: ["{"a" * 20_000}"]) {{ name }} }}')
    assert answer == {"data": {"eventTypes": []}}
    assert limits.read_once.cache_info().currsize == kept


def test_the_depth_that_callers_are_told_is_the_one_that_holds() -> None:
    assert Limits().max_query_depth == limits.MAX_DEPTH
