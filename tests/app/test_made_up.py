"""Requests that are made up from the OpenAPI documents: every answer is one that they promise."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.engine.recorder import Interaction
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.schemas import BaseSchema

from app.contracts import CONTRACTS
from models.ids import Prefix, encode
from resolvers import keys, organizations
from tests.houses import open_house
from tests.made_up import Amount, Found, made_up
from tests.schema.live import listening

BEYOND_SCHEMAS: Mapping[str, str] = {
    "is not a cursor of this list": "a cursor is opaque, and made by an answer",
    "must be a supported version": "a server knows which",
    "must be `whsec_` and the base64": "patterns do not count bytes",
    "must be a moment with a time zone between the years": "formats have no bounds",
    "has already been taken": "by an earlier request",
    "must not be more than": "another field",
    "is not storable as JSON": "NUL characters, which PostgreSQL does not keep",
    "must not hold NUL characters": "the same",
}
"""What a request may be refused for (400, 422) though JSON Schema finds it valid, and why no schema can say it."""


_ID = re.compile(rb'"(?:_id|id|subscriptionId)": ?"?([\w-]+)')


def _without_last_newline(value: Any) -> Any:
    """Texts are made up for patterns of Python, whose `$` lets a newline follow; that of JSON Schema does not."""
    match value:
        case str():
            return value.removesuffix("\n")
        case list():
            return [_without_last_newline(item) for item in value]
        case dict():
            return {name: _without_last_newline(part) for name, part in value.items()}
    return value


def is_excused(failure: Failure, interaction: Interaction) -> bool:
    """What should have been accepted, for the reasons above; what should have been refused, if nothing is wrong.

    The latter is so where a header was made wrong, and the one that is configured was sent.
    """
    answer = interaction.response
    assert answer is not None
    if isinstance(failure, AcceptedNegativeData):
        return "Invalid component: positive test case" in failure.message
    return (
        isinstance(failure, RejectedPositiveData)
        and answer.status_code in (400, 422)
        and any(reason in answer.text for reason in BEYOND_SCHEMAS)
    )


def loaded(url: str, config: schemathesis.Config) -> BaseSchema:
    """The document at an address. Every other path with an id gets that of a webhook that was made meanwhile."""
    schema = schemathesis.openapi.from_url(url, config=config)
    ids: list[str] = []

    @schema.hook
    def after_call(context: schemathesis.HookContext, case: Any, response: schemathesis.Response) -> None:
        found = _ID.search(response.content)
        if case.method == "POST" and "{" not in case.path and response.status_code < 300 and found:
            ids.append(found[1].decode())

    @schema.hook
    def map_case(context: schemathesis.HookContext, case: Any) -> Any:
        if case.meta is not None and case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE:
            case.body, case.query = _without_last_newline(case.body), _without_last_newline(case.query)
        return case

    @schema.hook
    def map_path_parameters(context: schemathesis.HookContext, path_parameters: Any) -> Any:
        if ids and path_parameters and len(str(path_parameters.get("id", ""))) % 2:
            return path_parameters | {"id": ids[-1]}
        return path_parameters

    return schema


async def asked(database_url: str, contract: str, amount: Amount) -> Found:
    path = "/openapi.json" if contract == "native" else f"/openapi/{contract}.json"
    settings: Any = {"requests_per_second": 0, "max_webhooks": 100_000}
    async with open_house(database_url, **settings) as house, listening(house) as address:
        organization = await organizations.create_named("Acme", None)
        # With `platform`, because most requests name an organization.
        _, token = await keys.create_for(organization.id, "schemathesis", ["platform", "*"], contract=contract)
        return await made_up(
            lambda config: loaded(f"http://{address}{path}", config),
            {"Authorization": f"Bearer {token}"},
            amount,
            excused=is_excused,
            parameters={"Hookline-Organization": encode(Prefix.ORGANIZATION, organization.id)},
        )


@pytest.mark.parametrize("database_kind", ["postgresql"])  # it refuses more than SQLite does
@pytest.mark.parametrize("contract", CONTRACTS)
async def test_whatever_is_asked_is_answered_as_documented(
    database_url: str, contract: str, how_many: Amount, record_property: Callable[[str, object], None]
) -> None:
    found = await asked(database_url, contract, how_many)
    record_property("made up", f"{contract}: {found}")
    assert "\n\n".join(found.complaints) == ""
