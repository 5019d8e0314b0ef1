"""Pages: every item once, whatever arrives meanwhile, forwards and backwards."""

from typing import Any

import pytest

from resolvers import webhooks
from resolvers.inputs import WebhookDraft
from tests.schema.door import Tenant

PAGE = """query($first: Int, $after: Cursor, $last: Int, $before: Cursor, $order: WebhookOrder!) {
  webhooks(first: $first, after: $after, last: $last, before: $before, orderBy: $order) {
    totalCount nodes { name } edges { cursor node { name } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
NAMES = ["c", "a", "e", "b", "d"]
BY_AGE = {"field": "CREATED_AT", "direction": "ASC"}


@pytest.fixture
async def five(acme: Tenant) -> Tenant:
    for name in NAMES:
        await added(acme, name)
    return acme


async def added(tenant: Tenant, name: str) -> None:
    await webhooks.create(await tenant.caller(), WebhookDraft("https://1.1.1.1/", ["*"], name=name))


async def page(tenant: Tenant, order: Any = BY_AGE, **arguments: Any) -> Any:
    return await tenant.data(PAGE, order=order, **arguments)


def names(found: Any) -> list[str]:
    assert [edge["node"] for edge in found["edges"]] == found["nodes"]
    return [node["name"] for node in found["nodes"]]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (BY_AGE, NAMES),
        ({"field": "CREATED_AT", "direction": "DESC"}, NAMES[::-1]),
        ({"field": "UPDATED_AT", "direction": "ASC"}, NAMES),
        ({"field": "NAME", "direction": "ASC"}, sorted(NAMES)),
        ({"field": "NAME", "direction": "DESC"}, sorted(NAMES, reverse=True)),
    ],
)
async def test_walking_forwards_and_backwards_meets_every_item_once(
    five: Tenant, order: Any, expected: list[str]
) -> None:
    met: list[str] = []
    after, more = None, True
    while more:
        found = await page(five, order, first=2, after=after)
        met += names(found)
        after, more = found["pageInfo"]["endCursor"], found["pageInfo"]["hasNextPage"]
    assert met == expected
    met, before, more = [], None, True
    while more:
        found = await page(five, order, last=2, before=before)
        met = names(found) + met
        before, more = found["pageInfo"]["startCursor"], found["pageInfo"]["hasPreviousPage"]
    assert met == expected


async def test_items_that_arrive_meanwhile_shift_nothing(five: Tenant) -> None:
    latest = {"field": "CREATED_AT", "direction": "DESC"}
    first = await page(five, latest, first=2)
    await added(five, "new")
    second = await page(five, latest, first=2, after=first["pageInfo"]["endCursor"])
    assert (names(first), names(second)) == (["d", "b"], ["e", "a"])


async def test_a_page_says_where_it_stands(five: Tenant) -> None:
    found = await page(five, first=2)
    cursors = [edge["cursor"] for edge in found["edges"]]
    assert found["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": cursors[0],
        "endCursor": cursors[1],
    }
    assert found["totalCount"] == 5


async def test_an_empty_page_has_no_cursors(five: Tenant) -> None:
    for arguments in ({"first": 0}, {"first": 2, "after": (await page(five, last=1))["pageInfo"]["endCursor"]}):
        found = await page(five, **arguments)
        assert (found["nodes"], found["edges"]) == ([], [])
        assert (found["pageInfo"]["startCursor"], found["pageInfo"]["endCursor"]) == (None, None)


async def test_without_a_size_a_page_has_twenty(acme: Tenant) -> None:
    for i in range(21):
        await added(acme, f"{i}")
    found = await page(acme)
    assert (len(found["nodes"]), found["pageInfo"]["hasNextPage"]) == (20, True)


async def test_a_cursor_of_another_order_is_refused(five: Tenant) -> None:
    cursor = (await page(five, first=1))["pageInfo"]["endCursor"]
    answer = await five.ask(PAGE, order={"field": "NAME", "direction": "ASC"}, after=cursor)
    assert answer["data"] == {"webhooks": None}
    assert answer["errors"][0]["extensions"]["fields"] == [
        {"path": ["after"], "code": "INVALID_FORMAT", "message": "is not a cursor of this list in this order"}
    ]


async def test_first_and_last_exclude_each_other(five: Tenant) -> None:
    answer = await five.ask(PAGE, order=BY_AGE, first=1, last=1)
    assert answer["errors"][0]["extensions"]["code"] == "VALIDATION_FAILED"


async def test_an_argument_that_is_null_is_as_if_left_out(five: Tenant) -> None:
    assert names(await page(five, first=None, after=None, last=None, before=None)) == NAMES
